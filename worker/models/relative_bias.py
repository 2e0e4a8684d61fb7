"""MPNet's relative position bias, expanded from buckets to all distances."""

import math

import numpy as np
import numpy.typing as npt

_LAST_BUCKET_DISTANCE = 128  # hard-coded in transformers


def bias_by_distance(buckets: npt.NDArray[np.float32], max_distance: int) -> npt.NDArray[np.float32]:
    """float32 (heads, 2 * max_distance + 1): the bias for key minus query position, from -max_distance up.

    `buckets` is (num_buckets, heads): half for keys at or before the query, half for keys after it. In each
    half, short distances have one bucket each, and longer ones share buckets of logarithmic width.
    """
    half = len(buckets) // 2
    near = half // 2
    distance = np.arange(-max_distance, max_distance + 1)
    far = np.maximum(np.abs(distance), 1).astype(np.float32)
    log_bucket = near + (
        np.log(far / np.float32(near)) / np.float32(math.log(_LAST_BUCKET_DISTANCE / near)) * (half - near)
    ).astype(np.int64)
    within = np.where(np.abs(distance) < near, np.abs(distance), np.minimum(log_bucket, half - 1))
    bucket = within + np.where(distance > 0, half, 0)
    return np.ascontiguousarray(buckets[bucket].T, dtype=np.float32)
