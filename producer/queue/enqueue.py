"""Enqueues requests: bounded and deduplicated in one atomic step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from producer.contract import Keys, Request, encode_request, job_id, job_name
from producer.errors import InvalidOption, JobNameTaken, QueueFull, QueueUnavailable
from producer.queue.cancel import CANCELLED
from producer.queue.deadlines import OVERDUE, check_deadline
from producer.queue.scripts import ENQUEUE
from producer.transport.autopipeline import AutoPipeline
from producer.transport.retry import memory_is_full

MAX_INLINE_BYTES = 64 * 1024  # of a payload that is a script's argument: copying larger ones is slow
# How long a staged payload or result waits for the script that accepts it; longer than clocks step.
STAGED_S = 180
FULL_RETRY_S = 1.0
MEMORY_RETRY_S = 2.0  # memory is freed as results are read or expire


class Priority(StrEnum):
    """The head start of a job over others in the queue; jobs age, so none starves."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_MAX_WHOLE = 2**53  # the largest that a script computes with exactly
_MAX_KEPT_S = 10 * 366 * 24 * 3600
HEAD_START_MS = {Priority.HIGH: 3_600_000, Priority.NORMAL: 0, Priority.LOW: -3_600_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """How much a queue may hold; `submit` raises QueueFull beyond it.

    `max_jobs` bounds pending jobs, `max_bytes` the texts of pending and running ones plus the answers that
    are neither consumed nor expired.
    """

    max_jobs: int = 10_000
    max_bytes: int = 1024 * 1024 * 1024

    def __post_init__(self) -> None:
        for name in ("max_jobs", "max_bytes"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= _MAX_WHOLE:
                raise InvalidOption(
                    f"{name} must be a whole number from 1 to {_MAX_WHOLE}, not {value!r:.60}"
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """An encoded request, its digest, and the id under which its result can be fetched."""

    job: str
    digest: str
    payload: bytes
    num_bytes: int
    num_texts: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A job on the queue; `joined` if it, or its result, was there already."""

    job: str
    joined: bool


def prepare_job(request: Request, *, job: str | None = None) -> PreparedJob:
    """Encode the request; the job's id is a hash of its content unless `job` gives one."""
    payload = encode_request(request)
    digest = job_id(payload)
    return PreparedJob(
        job=digest if job is None else job_name(job),
        digest=digest,
        payload=payload,
        num_bytes=request.num_bytes,
        num_texts=len(request.texts),
    )


def check_kept(keep_result_s: float) -> float:
    """How long results are kept. Raises InvalidOption for what Redis cannot count."""
    if type(keep_result_s) not in (int, float) or not 0.001 <= keep_result_s <= _MAX_KEPT_S:
        raise InvalidOption(
            f"keep_result_s must be from 0.001 to {_MAX_KEPT_S} (ten years), not {keep_result_s!r:.60}"
        )
    return keep_result_s


async def submit(
    redis: Redis | AutoPipeline,
    keys: Keys,
    prepared: PreparedJob,
    *,
    priority: Priority | str = Priority.NORMAL,
    limits: QueueLimits,
    keep_result_s: float,
    deadline_s: float | None = None,
    run: str | None = None,
    asker: str = "",
    client: str = "",
) -> Submission:
    """Enqueue the request, or join the job of that id if it is on the queue or its result is kept.

    An `asker` names this ask, which can then be withdrawn; `client` is told on its channel when the job has
    ended. Raises QueueFull beyond the limits or if Redis has
    no memory left, JobNameTaken, InvalidOption for an unknown priority or deadline, and redis-py's errors.
    """
    head_start_ms = str(HEAD_START_MS[_priority(priority)])
    call = uuid4().hex
    is_staged = len(prepared.payload) > MAX_INLINE_BYTES
    payload = b"" if is_staged else prepared.payload
    sizes = (str(prepared.num_bytes), str(prepared.num_texts))
    bounds = (str(limits.max_jobs), str(limits.max_bytes))
    times = (str(int(keep_result_s * 1000)), str(int(check_deadline(deadline_s) * 1000)))
    terms = (*sizes, head_start_ms, *bounds, *times, run or "", asker, client)
    command = ENQUEUE.command(
        keys.root, prepared.job, call, payload, prepared.digest, *terms, CANCELLED, OVERDUE
    )
    staging = [("SET", keys.staged(call), prepared.payload, "EX", str(STAGED_S))] if is_staged else []
    pipeline = redis if isinstance(redis, AutoPipeline) else AutoPipeline(redis)
    with out_of_memory(keys):
        *_, (state, depth) = await pipeline.send(*staging, command)
    if state == b"full":
        raise queue_full(keys, limits, depth)
    if state == b"taken":
        raise JobNameTaken(
            f"the job name {prepared.job!r} is in use for other texts, options or another model; choose "
            "another name, or none, so that the job is named after its content"
        )
    if state == b"lost":
        raise QueueUnavailable("Redis dropped the payload before it was accepted; check its memory policy")
    return Submission(prepared.job, joined=state == b"joined")


def queue_full(keys: Keys, limits: QueueLimits, depth: int) -> QueueFull:
    """The error of a queue that has reached its limits."""
    return QueueFull(
        f"the queue {keys.queue} is full ({depth} jobs pending, limits {limits.max_jobs} jobs and "
        f"{limits.max_bytes} bytes of texts and unread answers); try again later",
        retry_after_s=FULL_RETRY_S,
    )


@contextmanager
def out_of_memory(keys: Keys) -> Iterator[None]:
    """Raise QueueFull if Redis has no memory left."""
    try:
        yield
    except ResponseError as error:
        if not memory_is_full(error):
            raise
        raise QueueFull(
            f"Redis has reached its maxmemory, so the queue {keys.queue} accepts no jobs now; "
            "try again later, or raise maxmemory",
            retry_after_s=MEMORY_RETRY_S,
        ) from error


def _priority(value: Priority | str) -> Priority:
    try:
        return Priority(value)
    except ValueError:
        known = ", ".join(Priority)
        raise InvalidOption(f"priority must be one of {known}, not {value!r:.60}") from None
