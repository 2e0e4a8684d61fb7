"""A profile serves only after it gave the golden vectors on this very machine."""

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from producer.contract import Truncate
from producer.errors import BackendError, ModelError
from worker.backends.contract import Backend, FloatArray, Tokens
from worker.tokenizer import Tokenizer

# A text alone and the same text among others may differ by float rounding, never by more.
COMPANY_COSINE = 0.9999


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Texts and the fp32 vectors that sentence-transformers gives for them, float32 (n, dim)."""

    texts: tuple[str, ...]
    vectors: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was seen: the worst cosine to the golden vectors, None without any, and alone to in company."""

    golden_cosine: float | None
    company_cosine: float


PROBE_TEXTS = (
    "a short text",
    "",
    "The quick brown fox jumps over the lazy dog while the rain falls on the quiet town. " * 6,
    "Ein deutscher Satz, un texte français, 一句中文, and numbers 3.14159.",
)


def read_golden(path: Path) -> Golden:
    """The golden file of a manifest. Raises ModelError if it is not one."""
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        flat = np.frombuffer(base64.b64decode(fields["vectors"]), dtype="<f4")
        return Golden(tuple(fields["texts"]), flat.reshape(len(fields["texts"]), int(fields["dim"])))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no golden file: {error}") from error


def verify(backend: Backend, tokenizer: Tokenizer, golden: Golden | None, *, min_cosine: float) -> Verified:
    """Embed known texts together and alone; BackendError if a vector is not what it must be."""
    texts = golden.texts if golden is not None else PROBE_TEXTS
    tokens = tokenizer.encode(texts, Truncate.END).tokens
    together = _embed(backend, tokens)
    if not np.isfinite(together).all():
        raise BackendError("the profile gives vectors that are not finite")
    alone = np.concatenate([_embed(backend, _only(tokens, index)) for index in range(len(tokens))])
    company = _worst_cosine(alone, together)
    if company < COMPANY_COSINE:
        raise BackendError(f"a text's vector depends on its company: cosine {company:.6f} to itself alone")
    if golden is None:
        return Verified(golden_cosine=None, company_cosine=company)
    if golden.vectors.shape != together.shape:
        raise BackendError(
            f"the vectors have {together.shape[1]} dimensions, the golden ones {golden.vectors.shape[1]}"
        )
    worst = _worst_cosine(together, golden.vectors)
    if worst < min_cosine:
        raise BackendError(f"the worst golden vector has cosine {worst:.6f}, the profile owes {min_cosine}")
    return Verified(golden_cosine=worst, company_cosine=company)


def _embed(backend: Backend, tokens: Tokens) -> FloatArray:
    """All texts, in as many batches as the backend's limits ask for."""
    longest = int(tokens.lengths.max())
    room = max(1, min(backend.max_batch_texts, backend.max_batch_tokens // longest))
    parts = []
    for start in range(0, len(tokens), room):
        offsets = tokens.offsets[start : start + room + 1]
        part = Tokens(tokens.ids[offsets[0] : offsets[-1]], offsets - offsets[0])
        parts.append(backend.collect(backend.launch(part)))
    return np.concatenate(parts)


def _only(tokens: Tokens, index: int) -> Tokens:
    start, end = tokens.offsets[index : index + 2]
    return Tokens(tokens.ids[start:end], np.array([0, end - start], dtype=np.int32))


def _worst_cosine(left: FloatArray, right: FloatArray) -> float:
    a, b = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.where(norms > 0, norms, 1)).min())
