"""Splits a batch into micro-batches, each padded to one bucket of the engine."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engines.shapes import Bucket, Shape


@dataclass(frozen=True, slots=True, eq=False)
class MicroBatch:
    """The indices of texts that are computed together, and the bucket they are padded to."""

    texts: npt.NDArray[np.intp]
    bucket: Bucket


def split_into_buckets(lengths: npt.NDArray[np.int32], shapes: tuple[Shape, ...]) -> list[MicroBatch]:
    """Micro-batches with the longest texts first, each in the smallest bucket that fits.

    For a batch within the limits (longest text x number of texts, and the first shape's number of texts), the
    buckets have at most three times the budget's slots in total, and usually far fewer.
    """
    order = np.argsort(-lengths, kind="stable")
    micro_batches: list[MicroBatch] = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        shape = next(shape for shape in shapes if shape.num_tokens >= longest)
        texts = order[start : start + shape.max_texts]
        bucket = next(bucket for bucket in shape.buckets if bucket.num_texts >= len(texts))
        micro_batches.append(MicroBatch(texts, bucket))
        start += len(texts)
    return micro_batches
