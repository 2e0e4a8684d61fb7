"""A profile serves only after it gave the golden vectors on this very machine."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract import Truncate
from producer.errors import BackendError
from selection import Profile
from worker.backends.token_batches import embed_one_by_one, full_batch, take
from worker.contract import Backend, FloatArray
from worker.reference_texts import golden_texts
from worker.startup.golden import Golden
from worker.tokenization.tokenizer import Tokenizer

# A text alone and the same text among others may differ by the rounding of 16 bit, or by what a profile of
# fewer bits may differ from fp32: there a rounding decides which of two coarse values an element gets.
_COMPANY_COSINE = 0.9999


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was seen: worst and mean cosine to the golden vectors, None without any, and alone to in company.

    `cached` is true if an earlier boot saw it and this one ran the full batch only.
    """

    golden_cosine: float | None
    mean_cosine: float | None
    company_cosine: float
    cached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """The least cosines: to the golden vectors the worst and the mean, and in company to alone."""

    worst: float = -1.0
    mean: float = -1.0
    company: float = _COMPANY_COSINE


def owed_by(profile: Profile) -> Owed:
    """What the profile owes before it may serve."""
    return Owed(
        worst=profile.min_cosine,
        mean=profile.min_mean_cosine or -1.0,
        company=min(_COMPANY_COSINE, profile.min_cosine),
    )


def verify(backend: Backend, tokenizer: Tokenizer, golden: Golden | None, owed: Owed) -> Verified:
    """Embed known texts one by one and in one full batch; BackendError if a vector is not what it must be."""
    texts = golden_texts(tokenizer.max_tokens) if golden is None else golden.texts
    tokens = tokenizer.encode(texts, Truncate.END).tokens
    alone = embed_one_by_one(backend, tokens)
    _refuse_infinite(alone)
    picked = full_batch(tokens.lengths, backend)
    together = backend.collect(backend.launch(take(tokens, picked)))
    _refuse_infinite(together)
    company = float(_cosines(together, alone[picked]).min())
    if company < owed.company:
        raise BackendError(
            f"a text's vector depends on its company: cosine {company:.6f} to itself alone, "
            f"the profile owes {owed.company}"
        )
    if golden is None:
        return Verified(golden_cosine=None, mean_cosine=None, company_cosine=company)
    found = _golden_cosines(alone, golden.vectors, owed)
    return Verified(golden_cosine=float(found.min()), mean_cosine=float(found.mean()), company_cosine=company)


def run_full_batch(backend: Backend, tokenizer: Tokenizer, golden: Golden | None, owed: Owed) -> None:
    """Embed one full batch of known texts; BackendError if a vector is not what it must be."""
    texts = golden_texts(tokenizer.max_tokens) if golden is None else golden.texts
    tokens = tokenizer.encode(texts, Truncate.END).tokens
    picked = full_batch(tokens.lengths, backend)
    together = backend.collect(backend.launch(take(tokens, picked)))
    _refuse_infinite(together)
    if golden is not None:
        _golden_cosines(together, golden.vectors[picked], owed)


def _golden_cosines(vectors: FloatArray, golden: FloatArray, owed: Owed) -> npt.NDArray[np.float64]:
    if golden.shape != vectors.shape:
        raise BackendError(
            f"the vectors have {vectors.shape[1]} dimensions, the golden ones {golden.shape[1]}"
        )
    found = _cosines(vectors, golden)
    if found.min() < owed.worst:
        raise BackendError(
            f"the worst golden vector has cosine {found.min():.6f}, the profile owes {owed.worst}"
        )
    if found.mean() < owed.mean:
        raise BackendError(
            f"the golden vectors have a mean cosine of {found.mean():.6f}, the profile owes {owed.mean}"
        )
    return found


def _refuse_infinite(vectors: FloatArray) -> None:
    if not np.isfinite(vectors).all():
        raise BackendError("the profile gives vectors that are not finite")


def _cosines(left: FloatArray, right: FloatArray) -> npt.NDArray[np.float64]:
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    found: npt.NDArray[np.float64] = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1)
    return found
