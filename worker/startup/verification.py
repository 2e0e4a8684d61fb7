"""Verifies that a profile reproduces golden vectors on this machine before it serves."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.errors import BackendError
from selection import CosineBounds
from worker.backends.token_batches import embed_one_by_one, full_batch, take
from worker.contract import Backend, FloatArray, Tokens
from worker.startup.element_limit import ElementLimit, element_limit
from worker.startup.golden import Golden, golden_tokens
from worker.tokenization.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The cosines that verification found.

    `golden_cosine` is the worst and `mean_cosine` the mean to the golden vectors, None without any.
    `batch_cosine` and `batch_mean_cosine` are those of a text in a full batch to the same text alone.
    `element_limit` is what int8 holds, from the golden vectors, or without any from the profile's own.
    `cached` is true if an earlier boot found all this and this one ran the full batch only.
    """

    golden_cosine: float | None
    mean_cosine: float | None
    batch_cosine: float
    batch_mean_cosine: float
    element_limit: ElementLimit
    cached: bool = False

    def check_batch(self, bounds: CosineBounds) -> None:
        """Raise BackendError if a text's vector depends on the rest of its batch by more than roundings."""
        company = bounds.in_company
        shortfall = company.shortfall(worst=self.batch_cosine, mean=self.batch_mean_cosine)
        if shortfall is not None:
            raise BackendError(
                f"a text's vector depends on the rest of its batch: to the same text alone its {shortfall}"
            )

    def check_golden(self, bounds: CosineBounds) -> None:
        """Raise BackendError if the vectors are further from the golden ones than by roundings."""
        if self.golden_cosine is None or self.mean_cosine is None:
            return
        shortfall = bounds.shortfall(worst=self.golden_cosine, mean=self.mean_cosine)
        if shortfall is not None:
            raise BackendError(f"to the golden vectors the {shortfall}")


def verify_backend(backend: Backend, tokenizer: Tokenizer, golden: Golden | None) -> Verified:
    """Embed known texts one by one and in one full batch, and compare.

    Raises BackendError if a vector is not finite.
    """
    texts = tokenizer.golden_texts() if golden is None else golden.texts
    return compare(backend, golden_tokens(texts, tokenizer), None if golden is None else golden.vectors)


def compare(backend: Backend, tokens: Tokens, golden: FloatArray | None) -> Verified:
    """Compare the texts' vectors alone with golden ones (n, dim), and in a full batch with those alone.

    Two runs of a text round alike or independently, each as close to exact as the format allows: so the
    bounds of the first comparison hold for the second. Raises BackendError if a vector is not finite.
    """
    alone = embed_one_by_one(backend, tokens)
    _check_finite(alone)
    picked = full_batch(tokens.lengths, backend)
    together = backend.collect(backend.launch(take(tokens, picked)))
    _check_finite(together)
    in_batch = _cosines(together, alone[picked])
    to_golden = None if golden is None else _golden_cosines(alone, golden)
    return Verified(
        golden_cosine=None if to_golden is None else float(to_golden.min()),
        mean_cosine=None if to_golden is None else float(to_golden.mean()),
        batch_cosine=float(in_batch.min()),
        batch_mean_cosine=float(in_batch.mean()),
        element_limit=element_limit(alone if golden is None else golden),
    )


def run_full_batch(
    backend: Backend, tokenizer: Tokenizer, golden: Golden | None, bounds: CosineBounds
) -> None:
    """Embed one full batch of known texts, and compare it with their golden vectors if there are any.

    Raises BackendError if a vector is not finite or a cosine is below its bound.
    """
    texts = tokenizer.golden_texts() if golden is None else golden.texts
    tokens = golden_tokens(texts, tokenizer)
    picked = full_batch(tokens.lengths, backend)
    together = backend.collect(backend.launch(take(tokens, picked)))
    _check_finite(together)
    if golden is None:
        return
    found = _golden_cosines(together, golden.vectors[picked])
    shortfall = bounds.shortfall(worst=float(found.min()), mean=float(found.mean()))
    if shortfall is not None:
        raise BackendError(f"to the golden vectors the {shortfall}")


def _golden_cosines(vectors: FloatArray, golden: FloatArray) -> npt.NDArray[np.float64]:
    """Each vector's cosine to its golden one. Raises BackendError for another number of dimensions."""
    if golden.shape != vectors.shape:
        raise BackendError(
            f"the vectors have {vectors.shape[1]} dimensions, the golden vectors {golden.shape[1]}"
        )
    return _cosines(vectors, golden)


def _check_finite(vectors: FloatArray) -> None:
    if not np.isfinite(vectors).all():
        raise BackendError("the profile's vectors are not finite")


def _cosines(left: FloatArray, right: FloatArray) -> npt.NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1)
    return found
