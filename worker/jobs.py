"""One job from payload to answer: decoded, checked, tokenised, embedded, cast, encoded."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
from worker.embedding import Embedding, Outcome, Prepared
from worker.leases import Claim
from worker.prompts import Prompts
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
    """One job as it was answered; `failures` counts the failed texts by code.

    `num_repeated` texts had their vector from an equal text in flight, `num_cache_hits` from the cache;
    with the cache off there are neither hits nor misses.
    """

    job: str
    num_texts: int
    failures: Mapping[str, int]
    num_truncated: int
    num_tokens: int
    waited_s: float
    seconds: float
    code: str
    num_repeated: int = 0
    num_cache_hits: int = 0
    num_cache_misses: int = 0

    @property
    def num_failed(self) -> int:
        """Texts without a vector."""
        return sum(self.failures.values())


@dataclass(frozen=True, slots=True, eq=False)
class _Texts:
    """The texts of a request that were not refused, by their index in it, intp (k,)."""

    request: Request
    rows: npt.NDArray[np.intp]
    prepared: Prepared


class EmbedJobs:
    """The function that runs each claimed job; it answers every text and raises only for the device's death.

    CPU work runs in `executor`, never on the event loop.
    """

    def __init__(
        self,
        serving: Serving,
        embedding: Embedding,
        *,
        executor: ThreadPoolExecutor,
        on_job: Callable[[JobEvent], None],
    ) -> None:
        self._serving = serving
        self._embedding = embedding
        self._executor = executor
        self._on_job = on_job

    async def __call__(self, claim: Claim, payload: bytes | None) -> bytes:
        """The encoded answer; a request that cannot be served is answered with its error's code."""
        started_s = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            texts = await loop.run_in_executor(self._executor, self._prepare, payload)
        except (RequestError, PayloadError) as error:
            self._tell(claim, started_s, error=error)
            return encode_failure(Failure(code=error.code, message=str(error)))
        # A job that was running when a worker died is kept away from others' batches.
        embedded = await self._embedding.embed(texts.prepared, alone=claim.tries > 1)
        reply, outcome, answer = await loop.run_in_executor(self._executor, self._answer, texts, embedded)
        self._tell(claim, started_s, reply=reply, outcome=outcome)
        return answer

    def _prepare(self, payload: bytes | None) -> _Texts:
        if payload is None:
            raise PayloadError("the job has no request; it was removed or has expired")
        request = decode_request(payload)
        self._check(request)
        prompt = self._serving.prompts.for_input(request.options.input_type)
        rows = [index for index, text in enumerate(request.texts) if text is not None]
        texts = [prompt + text for text in request.texts if text is not None]
        prepared = self._embedding.prepare(texts, request.options.truncate)
        return _Texts(request, np.array(rows, dtype=np.intp), prepared)

    def _check(self, request: Request) -> None:
        serving = self._serving
        if request.model not in serving.names:
            raise InvalidOption(f"this queue serves {serving.provenance.model!r}, not {request.model!r:.80}")
        _check_dimensions(request.options, serving)

    def _answer(self, texts: _Texts, embedded: Embedded) -> tuple[Reply, Outcome, bytes]:
        request, rows = texts.request, texts.rows
        outcome = self._embedding.outcome(texts.prepared, embedded)
        count = len(request.texts)
        vectors = outcome.vectors
        if len(rows) < count:
            vectors = np.full((count, self._serving.dim), np.nan, dtype=np.float32)
            vectors[rows] = outcome.vectors
        counts = np.zeros(count, dtype=np.int32)
        counts[rows] = outcome.lengths
        max_tokens = self._embedding.max_tokens
        failures = [
            *request.refused,
            *(_too_long(int(rows[at]), size, max_tokens) for at, size in outcome.too_long.items()),
            *(_without_vector(int(rows[one.index]), one) for one in outcome.failures),
        ]
        failed = [one.index for one in failures]
        counts[failed] = 0
        truncated = rows[outcome.truncated].astype(np.int32)
        final, scale = cast(shorten(vectors, request.options.dimensions), request.options.embedding_type)
        reply = Reply(
            vectors=final,
            failures=tuple(sorted(failures, key=lambda one: one.index)),
            token_counts=counts,
            truncated=truncated,
            scale=scale,
            provenance=self._serving.provenance,
        )
        return reply, outcome, encode_reply(reply)

    def _tell(
        self,
        claim: Claim,
        started_s: float,
        *,
        reply: Reply | None = None,
        outcome: Outcome | None = None,
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
            num_repeated=0 if outcome is None else outcome.num_repeated,
            num_cache_hits=0 if outcome is None else outcome.num_hits,
            num_cache_misses=0 if outcome is None else outcome.num_misses,
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
