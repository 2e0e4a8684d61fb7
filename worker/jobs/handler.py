"""Runs each claimed job: together with others or alone, on the event loop or in a thread."""

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import structlog

from producer.contract import Failure, encode_failure
from producer.errors import PayloadError, RequestError
from producer.queue.deadlines import DEADLINE_EXCEEDED, OVERDUE
from worker.batching.batcher import Batcher
from worker.batching.pending import Embedded, Overdue, TextPositions
from worker.consumer.bisection import NOTHING, Bisection, Range
from worker.consumer.failures import dead_letter_of, text_failures
from worker.consumer.leases import Claim, JobResult
from worker.contract import Tokens
from worker.jobs.pipeline import CheckedRequest, EncodedReply, PartResult, RequestPart, RequestPipeline
from worker.jobs.shared_lock import SharedLock
from worker.telemetry.activity import Activity, Stage
from worker.telemetry.events import JobEvent
from worker.telemetry.stopwatch import Stopwatch

log = structlog.stdlib.get_logger(__name__)

# Records which texts of a claim are about to run alone; False if the lease was lost.
Mark = Callable[[Claim, Bisection, Range], Awaitable[bool]]

MAX_QUICK_REQUEST = 1024  # bytes: about 250 tokens, 0.05 ms to read with nanotoken, 0.2 ms with tokenizers
MAX_QUICK_VECTORS = 16 * 1024  # bytes
READ_BYTES_PER_S = 400_000  # what is expected of the slowest tokenizers

_Result = TypeVar("_Result")


class JobHandler:
    """Runs claimed jobs: answers every text, and raises only if the device or the shutdown ends the worker.

    A job whose worker died before runs alone in this process, range by range, and each range is marked before
    anything but the decoder touches its texts. CPU work runs in `executor`; the event loop does only what
    takes less time than a thread would take to start on it. `activity` is told of every stage of every job.
    """

    def __init__(
        self,
        pipeline: RequestPipeline,
        batcher: Batcher,
        *,
        executor: ThreadPoolExecutor,
        mark: Mark,
        activity: Activity,
        on_job: Callable[[JobEvent], None],
    ) -> None:
        self._pipeline = pipeline
        self._batcher = batcher
        self._executor = executor
        self._mark = mark
        self._activity = activity
        self._on_job = on_job
        self._lock = SharedLock()
        self._in_threads: set[Future[Any]] = set()

    async def __call__(self, claim: Claim, payload: bytes | None) -> JobResult | None:
        """Run one job; None if its lease was lost meanwhile.

        A request that cannot be served is answered with the code of its error.
        """
        watch = Stopwatch()
        try:
            if claim.bisection is None:
                async with self._lock.shared():
                    if claim.is_overdue:
                        return self._overdue(claim, watch)
                    return await self._run_together(claim, payload, watch)
            async with self._lock.exclusive():
                await self._quiesce()
                return await self._run_alone(claim, payload, claim.bisection, watch)
        except (RequestError, PayloadError) as error:
            self._report_failed(claim, error.code, watch)
            return JobResult(encode_failure(Failure(code=error.code, message=str(error))))

    async def _run_together(self, claim: Claim, payload: bytes | None, watch: Stopwatch) -> JobResult:
        read = self._noted(Stage.PREPARE, claim, partial(self._read, payload))
        quick = self._is_quick(len(payload or b""), MAX_QUICK_REQUEST)
        part = read() if quick else await self._in_thread(read)
        watch.lap("prepare")
        try:
            embedded = await self._embed(claim, part.encoded.tokens, part.position_of, claim.begin_by_s)
        except Overdue:
            return self._overdue(claim, watch)
        watch.lap("device")
        finish = self._noted(Stage.ANSWER, claim, partial(self._pipeline.finish, part, embedded))
        quick = self._is_quick(embedded.vectors.nbytes, MAX_QUICK_VECTORS)
        encoded = finish() if quick else await self._in_thread(finish)
        watch.lap("answer")
        self._report_answered(claim, encoded, watch)
        return JobResult(encoded.payload)

    async def _run_alone(
        self, claim: Claim, payload: bytes | None, bisection: Bisection, watch: Stopwatch
    ) -> JobResult | None:
        if not await self._mark(claim, bisection, NOTHING):
            return None
        read = partial(self._pipeline.read, payload)
        checked = await self._in_thread(self._noted(Stage.PREPARE, claim, read))
        request = checked.request
        bisection = bisection.over(len(request.texts))
        log.warning("bisection", job=claim.job, **bisection.fields)
        results: list[PartResult] = []
        for tested in bisection.ranges:
            if not await self._mark(claim, bisection, tested):
                return None
            results.append(await self._compute_alone(claim, checked, tested, watch))
            bisection = bisection.survived(tested)
        if not await self._mark(claim, bisection, NOTHING):
            return None
        killers = text_failures(claim.job, bisection.killers)
        encode = partial(self._pipeline.encode, checked, results, killers)
        encoded = await self._in_thread(self._noted(Stage.ANSWER, claim, encode))
        watch.lap("answer")
        self._report_answered(claim, encoded, watch)
        if not killers:
            return JobResult(encoded.payload)
        dead_letter = dead_letter_of(claim.job, request, bisection)
        log.error("killers_found", job=claim.job, texts=len(killers), dead_letter=dead_letter.job)
        return JobResult(encoded.payload, dead_letter)

    async def _compute_alone(
        self, claim: Claim, checked: CheckedRequest, tested: Range, watch: Stopwatch
    ) -> PartResult:
        """Do all work on these texts, caching included, so that nothing touches them after their range."""
        prepare = partial(self._pipeline.prepare, checked, tested)
        part = await self._in_thread(self._noted(Stage.PREPARE, claim, prepare))
        watch.lap("prepare")
        embedded = await self._embed(claim, part.encoded.tokens)
        watch.lap("device")
        merge = partial(self._pipeline.merge, part, embedded)
        result = await self._in_thread(self._noted(Stage.ANSWER, claim, merge))
        watch.lap("answer")
        return result

    async def _embed(
        self,
        claim: Claim,
        tokens: Tokens,
        position_of: TextPositions | None = None,
        begin_by_s: float = math.inf,
    ) -> Embedded:
        with self._activity.during(Stage.WAIT, claim.job):
            return await self._batcher.embed(
                tokens, position_of=position_of, begin_by_s=begin_by_s, name=claim.job
            )

    def _noted(self, stage: Stage, claim: Claim, work: Callable[[], _Result]) -> Callable[[], _Result]:
        """The work, noted while it runs."""

        def noted() -> _Result:
            expected_s = claim.num_bytes / READ_BYTES_PER_S if stage is Stage.PREPARE else 0.0
            with self._activity.during(stage, claim.job, expected_s=expected_s):
                return work()

        return noted

    async def _quiesce(self) -> None:
        """Wait for work that cancelled jobs have left in threads and on the device."""
        running = map(asyncio.wrap_future, list(self._in_threads))
        await asyncio.gather(*running, return_exceptions=True)
        await self._batcher.drained()

    def _overdue(self, claim: Claim, watch: Stopwatch) -> JobResult:
        """The answer to a job whose deadline passed while it waited here."""
        self._report_failed(claim, DEADLINE_EXCEEDED.code, watch)
        return JobResult(OVERDUE)

    def _read(self, payload: bytes | None) -> RequestPart:
        return self._pipeline.prepare(self._pipeline.read(payload))

    def _is_quick(self, num_bytes: int, max_bytes: int) -> bool:
        """True if work on this many bytes costs less than handing it to a thread and back."""
        return num_bytes <= max_bytes and not self._pipeline.blocking

    async def _in_thread(self, work: Callable[[], _Result]) -> _Result:
        future = self._executor.submit(work)
        self._in_threads.add(future)
        future.add_done_callback(self._in_threads.discard)
        return await asyncio.wrap_future(future)

    def _report_failed(self, claim: Claim, code: str, watch: Stopwatch) -> None:
        self._on_job(
            JobEvent.failed(
                claim.job,
                code=code,
                num_texts=claim.num_texts,
                tries=claim.tries,
                waited_s=claim.waited_s,
                seconds=watch.seconds,
            )
        )

    def _report_answered(self, claim: Claim, encoded: EncodedReply, watch: Stopwatch) -> None:
        reply, results = encoded.reply, encoded.results
        self._on_job(
            JobEvent.answered(
                claim.job,
                watch,
                tries=claim.tries,
                waited_s=claim.waited_s,
                num_texts=len(reply.token_counts),
                failures=Counter(one.code for one in reply.failures) if reply.failures else {},
                num_truncated=len(reply.truncated),
                num_tokens=int(reply.token_counts.sum()),
                num_repeated=sum(one.num_repeated for one in results),
                num_cache_hits=sum(one.num_cache_hits for one in results),
                num_cache_misses=sum(one.num_cache_misses for one in results),
            )
        )
