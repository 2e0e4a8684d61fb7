"""What of a request is computed at once: texts as tokens, and after that their vectors."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract import Provenance, Reply, Request, TextFailure, decode_request
from producer.errors import InvalidOption, PayloadError
from worker.batcher import Embedded
from worker.prompts import Prompts
from worker.tokenizer import Encoded, Tokenizer
from worker.trial import Range
from worker.vectors import cast, shorten


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What this worker serves and how it answers."""

    names: frozenset[str]
    provenance: Provenance
    prompts: Prompts
    dim: int
    matryoshka: bool


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some texts of a request, by their index in it, intp (k,), and their tokens."""

    texts: npt.NDArray[np.intp]
    encoded: Encoded

    @property
    def rows(self) -> npt.NDArray[np.intp]:
        """Index in the request of each text that has tokens."""
        return self.texts[self.encoded.kept]


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


def tokenize(request: Request, some: Range, *, serving: Serving, tokenizer: Tokenizer) -> Part:
    """The tokens of the texts in the range; the refused ones among them have none."""
    prompt = serving.prompts.for_input(request.options.input_type)
    texts = [(at, request.texts[at]) for at in range(some.start, some.end)]
    kept = [(at, prompt + text) for at, text in texts if text is not None]
    encoded = tokenizer.encode([text for _, text in kept], request.options.truncate)
    return Part(np.array([at for at, _ in kept], dtype=np.intp), encoded)


def reply(
    request: Request,
    parts: Sequence[tuple[Part, Embedded]],
    killed: Sequence[TextFailure],
    *,
    serving: Serving,
    max_tokens: int,
) -> Reply:
    """The answer to all texts of the request: those of the parts, those that killed, and the refused."""
    count = len(request.texts)
    vectors = np.full((count, serving.dim), np.nan, dtype=np.float32)
    counts = np.zeros(count, dtype=np.int32)
    truncated = np.zeros(count, dtype=bool)
    failures = [*request.refused, *killed]
    for part, embedded in parts:
        rows, encoded = part.rows, part.encoded
        vectors[rows] = embedded.vectors
        counts[rows] = encoded.tokens.lengths
        truncated[part.texts[encoded.truncated]] = True
        too_long = encoded.too_long.items()
        failures += [_too_long(int(part.texts[at]), size, max_tokens) for at, size in too_long]
        failures += [TextFailure(int(rows[one.index]), one.code, one.message) for one in embedded.failures]
    counts[[one.index for one in failures]] = 0
    final, scale = cast(shorten(vectors, request.options.dimensions), request.options.embedding_type)
    return Reply(
        vectors=final,
        failures=tuple(sorted(failures, key=lambda one: one.index)),
        token_counts=counts,
        truncated=np.flatnonzero(truncated).astype(np.int32),
        scale=scale,
        provenance=serving.provenance,
    )


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


def _too_long(index: int, num_tokens: int, max_tokens: int) -> TextFailure:
    """NIM's sentence, since clients match on it."""
    return TextFailure(
        index,
        "text_too_long",
        f"Input length {num_tokens} exceeds maximum allowed token size {max_tokens} "
        f"(text {index}; truncate START or END cuts it)",
    )
