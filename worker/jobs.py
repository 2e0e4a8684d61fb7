"""One job from payload to answer: decoded, checked, tokenised, embedded, cast, encoded."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from producer.contract import (
    EmbedOptions,
    Failure,
    Provenance,
    Reply,
    Request,
    TextFailure,
    decode_request,
    encode_failure,
    encode_reply,
)
from producer.errors import EmbedmillError, InvalidOption, PayloadError, RequestError
from worker.batcher import Batcher
from worker.leases import Claim
from worker.prompts import Prompts
from worker.tokenizer import Encoded, Tokenizer
from worker.vectors import cast, shorten
from worker.waiting import Embedded

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What this worker serves and how it answers."""

    names: frozenset[str]
    provenance: Provenance
    prompts: Prompts
    dim: int
    matryoshka: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One job as it was answered; `failures` counts the failed texts by code."""

    job: str
    num_texts: int
    failures: Mapping[str, int]
    num_truncated: int
    num_tokens: int
    waited_s: float
    seconds: float
    code: str

    @property
    def num_failed(self) -> int:
        """Texts without a vector."""
        return sum(self.failures.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Prepared:
    request: Request
    texts: list[int]
    encoded: Encoded


class EmbedJobs:
    """The function that runs each claimed job; it answers every text and raises only for the device's death.

    CPU work runs in `executor`, never on the event loop.
    """

    def __init__(
        self,
        serving: Serving,
        tokenizer: Tokenizer,
        batcher: Batcher,
        *,
        executor: ThreadPoolExecutor,
        on_job: Callable[[JobEvent], None],
    ) -> None:
        self._serving = serving
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._executor = executor
        self._on_job = on_job

    async def __call__(self, claim: Claim, payload: bytes | None) -> bytes:
        """The encoded answer; a request that cannot be served is answered with its error's code."""
        started_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            prepared = await loop.run_in_executor(self._executor, self._prepare, payload)
        except (RequestError, PayloadError) as error:
            self._tell(claim, started_s, error=error)
            return encode_failure(Failure(code=error.code, message=str(error)))
        # A job that was running when a worker died is kept away from others' batches.
        embedded = await self._batcher.embed(prepared.encoded.tokens, alone=claim.tries > 1)
        reply, answer = await loop.run_in_executor(self._executor, self._answer, prepared, embedded)
        self._tell(claim, started_s, reply=reply)
        return answer

    def _prepare(self, payload: bytes | None) -> _Prepared:
        if payload is None:
            raise PayloadError("the job has no request; it was removed or has expired")
        request = decode_request(payload)
        self._check(request)
        prompt = self._serving.prompts.for_input(request.options.input_type)
        texts = [index for index, text in enumerate(request.texts) if text is not None]
        encoded = self._tokenizer.encode(
            [prompt + (request.texts[index] or "") for index in texts], request.options.truncate
        )
        return _Prepared(request, texts, encoded)

    def _check(self, request: Request) -> None:
        serving = self._serving
        if request.model not in serving.names:
            raise InvalidOption(f"this queue serves {serving.provenance.model!r}, not {request.model!r:.80}")
        _check_dimensions(request.options, serving)

    def _answer(self, prepared: _Prepared, embedded: Embedded) -> tuple[Reply, bytes]:
        request, encoded = prepared.request, prepared.encoded
        count = len(request.texts)
        rows = np.asarray(prepared.texts, dtype=np.intp)[encoded.kept]
        vectors = np.full((count, self._serving.dim), np.nan, dtype=np.float32)
        vectors[rows] = embedded.vectors
        counts = np.zeros(count, dtype=np.int32)
        counts[rows] = encoded.tokens.lengths
        failures = [
            *request.refused,
            *(_too_long(prepared.texts[at], size, self._tokenizer) for at, size in encoded.too_long.items()),
            *(TextFailure(int(rows[one.index]), one.code, one.message) for one in embedded.failures),
        ]
        failed = [one.index for one in failures]
        counts[failed] = 0
        truncated = np.asarray(prepared.texts, dtype=np.int32)[encoded.truncated]
        final, scale = cast(shorten(vectors, request.options.dimensions), request.options.embedding_type)
        reply = Reply(
            vectors=final,
            failures=tuple(sorted(failures, key=lambda one: one.index)),
            token_counts=counts,
            truncated=truncated,
            scale=scale,
            provenance=self._serving.provenance,
        )
        return reply, encode_reply(reply)

    def _tell(
        self,
        claim: Claim,
        started_s: float,
        *,
        reply: Reply | None = None,
        error: EmbedmillError | None = None,
    ) -> None:
        event = JobEvent(
            job=claim.job,
            num_texts=claim.num_texts if reply is None else len(reply.token_counts),
            failures=_count_by_code(claim, reply, error),
            num_truncated=0 if reply is None else len(reply.truncated),
            num_tokens=0 if reply is None else int(reply.token_counts.sum()),
            waited_s=claim.waited_s,
            seconds=time.perf_counter() - started_s,
            code="ok" if error is None else error.code,
        )
        self._on_job(event)


def _count_by_code(claim: Claim, reply: Reply | None, error: EmbedmillError | None) -> Mapping[str, int]:
    if error is not None:
        return {error.code: claim.num_texts}
    return Counter(one.code for one in reply.failures) if reply is not None else {}


def _check_dimensions(options: EmbedOptions, serving: Serving) -> None:
    dims, model = options.dimensions, serving.provenance.model
    if dims is None or dims == serving.dim:
        return
    if not serving.matryoshka:
        raise InvalidOption(
            f"This model does not support 'dimensions', but a value of '{dims}' was provided. "
            f"{model} gives {serving.dim}."
        )
    if dims > serving.dim:
        raise InvalidOption(f"dimensions is {dims}, but {model} has {serving.dim}")


def _too_long(index: int, num_tokens: int, tokenizer: Tokenizer) -> TextFailure:
    """NIM's sentence, since clients match on it."""
    return TextFailure(
        index,
        "text_too_long",
        f"Input length {num_tokens} exceeds maximum allowed token size {tokenizer.max_tokens} "
        f"(text {index}; truncate START or END cuts it)",
    )
