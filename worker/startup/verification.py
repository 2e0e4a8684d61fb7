"""Verifies that a profile reproduces golden vectors on this machine before it serves."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.errors import BackendError
from selection import Profile
from worker.backends.token_batches import embed_one_by_one, full_batch, take
from worker.contract import Backend, FloatArray
from worker.startup.element_limit import ElementLimit, element_limit
from worker.startup.golden import Golden, golden_tokens
from worker.tokenization.tokenizer import Tokenizer

# A text alone and in a batch may differ by 16-bit rounding, or by as much as a profile with fewer bits may
# differ from fp32: there a rounding decides which of two coarse values an element takes.
_MIN_BATCH_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """The cosines that verification found.

    `golden_cosine` is the worst and `mean_cosine` the mean to the golden vectors, None without any.
    `batch_cosine` is the worst of a text in a full batch to the same text alone. `element_limit` is what int8
    holds, from the golden vectors, or without any from the profile's own. `cached` is true if an earlier boot
    found all this and this one ran the full batch only.
    """

    golden_cosine: float | None
    mean_cosine: float | None
    batch_cosine: float
    element_limit: ElementLimit
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineBounds:
    """Minimum cosines: worst and mean to the golden vectors, and of a text in a batch to itself alone."""

    worst: float = -1.0
    mean: float = -1.0
    batch: float = _MIN_BATCH_COSINE


def cosine_bounds(profile: Profile) -> CosineBounds:
    """The bounds that a profile must meet before it may serve."""
    return CosineBounds(
        worst=profile.min_cosine,
        mean=profile.min_mean_cosine or -1.0,
        batch=min(_MIN_BATCH_COSINE, profile.min_cosine),
    )


def verify_backend(
    backend: Backend, tokenizer: Tokenizer, golden: Golden | None, bounds: CosineBounds
) -> Verified:
    """Embed known texts one by one and in one full batch, and compare.

    Raises BackendError if a vector is not finite or a cosine is below its bound.
    """
    texts = tokenizer.golden_texts() if golden is None else golden.texts
    tokens = golden_tokens(texts, tokenizer)
    alone = embed_one_by_one(backend, tokens)
    _check_finite(alone)
    picked = full_batch(tokens.lengths, backend)
    together = backend.collect(backend.launch(take(tokens, picked)))
    _check_finite(together)
    batch_cosine = float(_cosines(together, alone[picked]).min())
    if batch_cosine < bounds.batch:
        raise BackendError(
            f"a text's vector depends on the rest of its batch: its cosine to the same text alone is "
            f"{batch_cosine:.6f}, the profile's minimum is {bounds.batch}"
        )
    if golden is None:
        limit = element_limit(alone)
        return Verified(golden_cosine=None, mean_cosine=None, batch_cosine=batch_cosine, element_limit=limit)
    found = _check_golden(alone, golden.vectors, bounds)
    return Verified(
        golden_cosine=float(found.min()),
        mean_cosine=float(found.mean()),
        batch_cosine=batch_cosine,
        element_limit=element_limit(golden.vectors),
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
    if golden is not None:
        _check_golden(together, golden.vectors[picked], bounds)


def _check_golden(vectors: FloatArray, golden: FloatArray, bounds: CosineBounds) -> npt.NDArray[np.float64]:
    """Each vector's cosine to its golden one. Raises BackendError below the bounds."""
    if golden.shape != vectors.shape:
        raise BackendError(
            f"the vectors have {vectors.shape[1]} dimensions, the golden vectors {golden.shape[1]}"
        )
    found = _cosines(vectors, golden)
    if found.min() < bounds.worst:
        raise BackendError(
            f"the worst cosine to the golden vectors is {found.min():.6f}, the profile's minimum is "
            f"{bounds.worst}"
        )
    if found.mean() < bounds.mean:
        raise BackendError(
            f"the mean cosine to the golden vectors is {found.mean():.6f}, the profile's minimum is "
            f"{bounds.mean}"
        )
    return found


def _check_finite(vectors: FloatArray) -> None:
    if not np.isfinite(vectors).all():
        raise BackendError("the profile's vectors are not finite")


def _cosines(left: FloatArray, right: FloatArray) -> npt.NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1)
    return found
