"""What of a request is computed at once: texts made ready, and after that their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract import Provenance, Reply, Request, TextFailure, decode_request
from producer.errors import InvalidOption, PayloadError
from worker.consumer.bisection import Range
from worker.contract import FloatArray
from worker.jobs.embedder import Embedder, Outcome, PreparedTexts
from worker.jobs.postprocess import cast, shorten
from worker.jobs.prompts import Prompts


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What this worker serves and how it answers."""

    names: frozenset[str]
    provenance: Provenance
    prompts: Prompts
    dim: int
    matryoshka: bool


@dataclass(frozen=True, slots=True, eq=False)
class RequestPart:
    """Texts of a request that were not refused, by their index in it, intp (k,), ready for the device."""

    rows: npt.NDArray[np.intp]
    prepared: PreparedTexts


@dataclass(frozen=True, slots=True, eq=False)
class Computed:
    """What became of the texts of a part."""

    rows: npt.NDArray[np.intp]
    outcome: Outcome


def read(payload: bytes | None, serving: Serving) -> Request:
    """The request, if it is one that this worker can serve; RequestError or PayloadError if not."""
    if payload is None:
        raise PayloadError("the job has no request; it was removed or has expired")
    request = decode_request(payload)
    if request.model not in serving.names:
        raise InvalidOption(f"this queue serves {serving.provenance.model!r}, not {request.model!r:.80}")
    _check_dimensions(request, serving)
    serving.prompts.for_input(request.options.input_type)
    return request


def prepare(request: Request, some: Range, *, serving: Serving, embedding: Embedder) -> RequestPart:
    """The texts in the range, without the refused ones among them."""
    prompt = serving.prompts.for_input(request.options.input_type)
    texts = request.texts[some.start : some.end]
    kept = [prompt + text for text in texts if text is not None]
    rows = np.arange(some.start, some.end)
    if len(kept) < len(texts):
        rows = rows[[text is not None for text in texts]]
    return RequestPart(rows, embedding.prepare(kept, request.options.truncate))


def reply(
    request: Request,
    parts: Sequence[Computed],
    killed: Sequence[TextFailure],
    *,
    serving: Serving,
    max_tokens: int,
) -> Reply:
    """The answer to all texts of the request: those of the parts, those that killed, and the refused."""
    count = len(request.texts)
    counts = np.zeros(count, dtype=np.int32)
    truncated = np.zeros(count, dtype=bool)
    failures = [*request.refused, *killed]
    for part in parts:
        rows, outcome = part.rows, part.outcome
        counts[rows] = outcome.lengths
        truncated[rows[outcome.truncated]] = True
        too_long = outcome.too_long.items()
        failures += [_too_long(int(rows[at]), size, max_tokens) for at, size in too_long]
        failures += [_without_vector(int(rows[one.index]), one) for one in outcome.failures]
    counts[[one.index for one in failures]] = 0
    vectors = shorten(_vectors(count, parts, serving.dim), request.options.dimensions)
    final, scale = cast(vectors, request.options.embedding_type)
    return Reply(
        vectors=final,
        failures=tuple(sorted(failures, key=lambda one: one.index)),
        token_counts=counts,
        truncated=np.flatnonzero(truncated).astype(np.int32),
        scale=scale,
        provenance=serving.provenance,
    )


def _vectors(count: int, parts: Sequence[Computed], dim: int) -> FloatArray:
    """Those of all texts, NaN where there is none."""
    if len(parts) == 1 and len(parts[0].rows) == count:
        return parts[0].outcome.vectors  # nothing to move: the usual case
    vectors = np.full((count, dim), np.nan, dtype=np.float32)
    for part in parts:
        vectors[part.rows] = part.outcome.vectors
    return vectors


def _check_dimensions(request: Request, serving: Serving) -> None:
    dims, model = request.options.dimensions, serving.provenance.model
    if dims is None or dims == serving.dim:
        return
    if not serving.matryoshka:
        raise InvalidOption(
            f"This model does not support 'dimensions', but a value of '{dims}' was provided. "
            f"{model} gives {serving.dim}."
        )
    if dims > serving.dim:
        raise InvalidOption(f"dimensions is {dims}, but {model} has {serving.dim}")


def _without_vector(index: int, failure: TextFailure) -> TextFailure:
    return TextFailure(index, failure.code, f"text {index}: {failure.message}")


def _too_long(index: int, num_tokens: int, max_tokens: int) -> TextFailure:
    """NIM's sentence, since clients match on it."""
    return TextFailure(
        index,
        "text_too_long",
        f"Input length {num_tokens} exceeds maximum allowed token size {max_tokens} "
        f"(text {index}; truncate START or END cuts it)",
    )
