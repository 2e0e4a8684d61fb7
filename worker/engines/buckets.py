"""Cuts a padded batch into portions, each for one bucket of the engine."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from worker.engines.shapes import Bucket, Shape


@dataclass(frozen=True, slots=True, eq=False)
class Portion:
    """Texts of a batch that run together, by index, and the bucket they run in."""

    texts: npt.NDArray[np.intp]
    bucket: Bucket


def bucket_portions(lengths: npt.NDArray[np.int32], shapes: tuple[Shape, ...]) -> list[Portion]:
    """Portions with the longest texts first, each in the smallest bucket that fits.

    For a batch within the budget (longest text x number of texts, and the first shape's number of texts), the
    buckets have at most three times the budget's slots in all, mostly far fewer.
    """
    order = np.argsort(-lengths, kind="stable")
    cut: list[Portion] = []
    start = 0
    while start < len(order):
        longest = int(lengths[order[start]])
        shape = next(shape for shape in shapes if shape.num_tokens >= longest)
        texts = order[start : start + shape.max_texts]
        bucket = next(bucket for bucket in shape.buckets if bucket.num_texts >= len(texts))
        cut.append(Portion(texts, bucket))
        start += len(texts)
    return cut
