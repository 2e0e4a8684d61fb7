"""MPNet's learned bias by distance, expanded from buckets to every possible distance."""

import math

import numpy as np
import numpy.typing as npt

_MAX_DISTANCE = 128  # hard-coded in transformers


def bias_by_distance(buckets: npt.NDArray[np.float32], bound: int) -> npt.NDArray[np.float32]:
    """float32 (heads, 2 * bound + 1): the bias for key minus query position from -bound to bound.

    `buckets` is (num_buckets, heads): half for keys at or before the query, half for keys after it. In each
    half, near distances have a bucket each, and far ones share logarithmic buckets.
    """
    half = len(buckets) // 2
    near = half // 2
    distance = np.arange(-bound, bound + 1)
    far = np.maximum(np.abs(distance), 1).astype(np.float32)
    log_bucket = near + (
        np.log(far / np.float32(near)) / np.float32(math.log(_MAX_DISTANCE / near)) * (half - near)
    ).astype(np.int64)
    within = np.where(np.abs(distance) < near, np.abs(distance), np.minimum(log_bucket, half - 1))
    bucket = within + np.where(distance > 0, half, 0)
    return np.ascontiguousarray(buckets[bucket].T, dtype=np.float32)
