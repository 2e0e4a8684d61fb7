"""One job from payload to answer: decoded, checked, tokenised, embedded, cast, encoded."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

import structlog

from producer.contract import Failure, Reply, Request, TextFailure, encode_failure, encode_reply
from producer.errors import EmbedmillError, PayloadError, RequestError
from worker.batching.pending import Embedded
from worker.consumer.bisection import NOTHING, Bisection, Range
from worker.consumer.failures import dead_letter_of, text_failures
from worker.consumer.leases import Claim, JobResult
from worker.jobs import request_part as part
from worker.jobs.embedder import Embedder
from worker.jobs.request_part import Computed, RequestPart, Serving
from worker.jobs.shared_lock import SharedLock
from worker.telemetry.events import JobEvent
from worker.telemetry.stopwatch import Stopwatch

log = structlog.stdlib.get_logger(__name__)

# Tells, before some texts of a claim are touched, that they are on trial; False if the lease was lost.
Mark = Callable[[Claim, Bisection, Range], Awaitable[bool]]

MAX_QUICK_REQUEST = 1024  # bytes: some 250 tokens, 0.05 ms to read with nanotoken, 0.2 ms with tokenizers
MAX_QUICK_VECTORS = 16 * 1024  # bytes

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True, eq=False)
class _Done:
    """An answer, as it is sent, and what it was made of."""

    reply: Reply
    payload: bytes
    parts: list[Computed]


class EmbedJobs:
    """The function that runs each claimed job; it answers every text and raises only for the device's death.

    A job that was held by a worker when that died runs alone in this process, range by range, each marked
    before anything but the decoder has seen it. CPU work runs in `executor`, and on the event loop only what
    is done sooner than a thread would begin it.
    """

    def __init__(
        self,
        serving: Serving,
        embedding: Embedder,
        *,
        executor: ThreadPoolExecutor,
        mark: Mark,
        on_job: Callable[[JobEvent], None],
    ) -> None:
        self._serving = serving
        self._embedding = embedding
        self._executor = executor
        self._mark = mark
        self._on_job = on_job
        self._gate = SharedLock()
        self._at_work: set[Future[Any]] = set()

    async def __call__(self, claim: Claim, payload: bytes | None) -> JobResult | None:
        """The encoded answer, None if the lease was lost meanwhile.

        A request that cannot be served is answered with its error's code.
        """
        watch = Stopwatch()
        try:
            if claim.bisection is None:
                async with self._gate.together():
                    return await self._run(claim, payload, watch)
            async with self._gate.alone():
                await self._quiet()
                return await self._try(claim, payload, claim.bisection, watch)
        except (RequestError, PayloadError) as error:
            self._tell(claim, watch, error=error)
            return JobResult(encode_failure(Failure(code=error.code, message=str(error))))

    async def _run(self, claim: Claim, payload: bytes | None, watch: Stopwatch) -> JobResult:
        small = self._is_quick(len(payload or b""), MAX_QUICK_REQUEST)
        request, some = self._read(payload) if small else await self._off_loop(self._read, payload)
        watch.lap("prepare")
        embedded = await self._embedding.embed(some.prepared)
        watch.lap("device")
        small = self._is_quick(embedded.vectors.nbytes, MAX_QUICK_VECTORS)
        ending = (request, some, embedded)
        done = self._finish(*ending) if small else await self._off_loop(self._finish, *ending)
        return JobResult(self._told(claim, watch, done))

    async def _try(
        self, claim: Claim, payload: bytes | None, trial: Bisection, watch: Stopwatch
    ) -> JobResult | None:
        if not await self._mark(claim, trial, NOTHING):
            return None
        request = await self._off_loop(part.read, payload, self._serving)
        trial = trial.over(len(request.texts))
        log.warning("bisection", job=claim.job, **trial.fields)
        parts: list[Computed] = []
        for some in trial.ranges:
            if not await self._mark(claim, trial, some):
                return None
            parts.append(await self._compute_alone(request, some, watch))
            trial = trial.survived(some)
        if not await self._mark(claim, trial, NOTHING):
            return None
        killed = text_failures(claim.job, trial.killers)
        payload = self._told(claim, watch, await self._off_loop(self._reply, request, parts, killed))
        if not killed:
            return JobResult(payload)
        letter = dead_letter_of(claim.job, request, trial)
        log.error("killers_found", job=claim.job, texts=len(killed), letter=letter.job)
        return JobResult(payload, letter)

    async def _compute_alone(self, request: Request, some: Range, watch: Stopwatch) -> Computed:
        """From tokens to what the cache keeps, so that nothing touches these texts after their trial."""
        texts = await self._off_loop(self._prepare, request, some)
        watch.lap("prepare")
        embedded = await self._embedding.embed(texts.prepared, shared=False)
        watch.lap("device")
        computed = await self._off_loop(self._computed, texts, embedded)
        watch.lap("answer")
        return computed

    async def _quiet(self) -> None:
        """Wait for what jobs that were cancelled have left to the threads and to the device."""
        left = map(asyncio.wrap_future, list(self._at_work))
        await asyncio.gather(*left, return_exceptions=True)
        await self._embedding.drained()

    def _is_quick(self, num_bytes: int, max_bytes: int) -> bool:
        """Whether work on so many bytes costs less than the way to a thread and back."""
        return num_bytes <= max_bytes and not self._embedding.cached

    async def _off_loop(
        self,
        work: Callable[_Parameters, _Result],
        *arguments: _Parameters.args,
        **options: _Parameters.kwargs,
    ) -> _Result:
        future = self._executor.submit(work, *arguments, **options)
        self._at_work.add(future)
        future.add_done_callback(self._at_work.discard)
        return await asyncio.wrap_future(future)

    def _read(self, payload: bytes | None) -> tuple[Request, RequestPart]:
        request = part.read(payload, self._serving)
        return request, self._prepare(request, Range(0, len(request.texts)))

    def _prepare(self, request: Request, some: Range) -> RequestPart:
        return part.prepare(request, some, serving=self._serving, embedding=self._embedding)

    def _computed(self, some: RequestPart, embedded: Embedded) -> Computed:
        return Computed(some.rows, self._embedding.outcome(some.prepared, embedded))

    def _finish(self, request: Request, some: RequestPart, embedded: Embedded) -> _Done:
        return self._reply(request, [self._computed(some, embedded)], [])

    def _reply(self, request: Request, parts: list[Computed], killed: list[TextFailure]) -> _Done:
        max_tokens = self._embedding.max_tokens
        reply = part.reply(request, parts, killed, serving=self._serving, max_tokens=max_tokens)
        return _Done(reply, encode_reply(reply), parts)

    def _told(self, claim: Claim, watch: Stopwatch, done: _Done) -> bytes:
        """The answer, after `on_job` has heard of it."""
        watch.lap("answer")
        self._tell(claim, watch, done=done)
        return done.payload

    def _tell(
        self,
        claim: Claim,
        watch: Stopwatch,
        *,
        done: _Done | None = None,
        error: EmbedmillError | None = None,
    ) -> None:
        reply = None if done is None else done.reply
        outcomes = [] if done is None else [one.outcome for one in done.parts]
        event = JobEvent(
            job=claim.job,
            num_texts=claim.num_texts if reply is None else len(reply.token_counts),
            failures=_count_by_code(claim, reply, error),
            num_truncated=0 if reply is None else len(reply.truncated),
            num_tokens=0 if reply is None else int(reply.token_counts.sum()),
            waited_s=claim.waited_s,
            seconds=watch.seconds,
            code="ok" if error is None else error.code,
            tries=claim.tries,
            num_repeated=sum(one.num_repeated for one in outcomes),
            num_cache_hits=sum(one.num_hits for one in outcomes),
            num_cache_misses=sum(one.num_misses for one in outcomes),
            prepare_s=watch["prepare"],
            device_s=watch["device"],
            answer_s=watch["answer"],
        )
        self._on_job(event)


def _count_by_code(claim: Claim, reply: Reply | None, error: EmbedmillError | None) -> Mapping[str, int]:
    if error is not None:
        return {error.code: claim.num_texts}
    return Counter(one.code for one in reply.failures) if reply is not None else {}
