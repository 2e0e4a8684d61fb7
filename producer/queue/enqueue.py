"""How a request enters its queue: bounded and deduplicated in one atomic step."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from producer.contract import Keys, Request, encode_request, job_id
from producer.errors import InvalidOption, QueueFull, QueueUnavailable
from producer.queue.cancel import CANCELLED
from producer.transport.autopipeline import AutoPipeline

STAGED_S = 60  # how long a payload may lie between its two commands
FULL_RETRY_S = 1.0
MEMORY_RETRY_S = 2.0  # memory comes back as answers are read or expire

# KEYS[1] root of the queue's keys
# ARGV job id, staging token, bytes, texts, head start in ms, most jobs, most bytes, keep result in ms,
# the run it belongs to or '', the answer of a cancelled job
# A job's hash has a field for each run that wants it, `run:` for those without one, and counts them.
_ENQUEUE = """
local root = KEYS[1]
local id, bytes = ARGV[1], tonumber(ARGV[3])
local staged, job = root .. 'staged:' .. ARGV[2], root .. 'job:' .. id
local kept
if redis.call('EXISTS', job) == 1 then
  kept = job
  if redis.call('HSET', job, 'run:' .. ARGV[9], 1) == 1 then redis.call('HINCRBY', job, 'wanted', 1) end
else
  kept = redis.call('GET', root .. 'result:' .. id)
end
-- Whoever asks again after a cancellation wants the job, not the news of it.
if kept and kept ~= ARGV[10] then
  redis.call('UNLINK', staged)
  return {'joined', 0}
end
local depth = redis.call('ZCARD', root .. 'waiting')
local total = tonumber(redis.call('HGET', root .. 'totals', 'bytes') or '0')
if depth >= tonumber(ARGV[6]) or (total > 0 and total + bytes > tonumber(ARGV[7])) then
  redis.call('UNLINK', staged)
  return {'full', depth}
end
if redis.call('EXISTS', staged) == 0 then
  return {'lost', 0}
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('RENAME', staged, root .. 'request:' .. id)
redis.call('PERSIST', root .. 'request:' .. id)
local score = now - tonumber(ARGV[5])
redis.call('HSET', job, 'bytes', bytes, 'texts', ARGV[4], 'score', score, 'tries', 0,
  'enqueued', now, 'keep', ARGV[8], 'run:' .. ARGV[9], 1, 'wanted', 1)
redis.call('ZADD', root .. 'waiting', score, id)
if kept then redis.call('UNLINK', root .. 'result:' .. id) end
if redis.call('ZREM', root .. 'dead', id) == 1 then
  redis.call('UNLINK', root .. 'dead:' .. id, root .. 'dead-request:' .. id)
end
redis.call('HINCRBY', root .. 'totals', 'bytes', bytes)
-- While others wait nobody is idle: whoever is done looks at the queue by itself.
if depth == 0 then redis.call('PUBLISH', root .. 'bell', '+') end
return {'queued', depth + 1}
"""


class Priority(StrEnum):
    """How much of a head start a job has; ageing comes with it, so nothing starves."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


_HEAD_START_MS = {Priority.HIGH: 3_600_000, Priority.NORMAL: 0, Priority.LOW: -3_600_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLimits:
    """What a queue may hold; a submission beyond it is QueueFull."""

    max_jobs: int = 10_000
    max_bytes: int = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedJob:
    """A request as it will travel, under the id by which its answer is known."""

    job: str
    payload: bytes
    num_bytes: int
    num_texts: int


@dataclass(frozen=True, slots=True)
class Submission:
    """A job that is on the queue; `joined` if an equal one was there already."""

    job: str
    joined: bool


def prepare_job(request: Request, *, job: str | None = None) -> PreparedJob:
    """Encode the request; without a name for the job, its id is made from the content."""
    payload = encode_request(request)
    return PreparedJob(
        job=job or job_id(payload),
        payload=payload,
        num_bytes=request.num_bytes,
        num_texts=len(request.texts),
    )


async def submit(
    redis: Redis | AutoPipeline,
    keys: Keys,
    prepared: PreparedJob,
    *,
    priority: Priority | str = Priority.NORMAL,
    limits: QueueLimits,
    keep_result_s: float,
    run: str | None = None,
) -> Submission:
    """Put the request on its queue unless a job of that id is there, or its result; the run wants it now.

    Raises QueueFull over the limits and where Redis has no memory left, InvalidOption for an unknown
    priority, and redis-py's errors.
    """
    head_start_ms = _HEAD_START_MS[_priority(priority)]
    token = uuid4().hex
    sizes = (str(prepared.num_bytes), str(prepared.num_texts))
    bounds = (str(limits.max_jobs), str(limits.max_bytes))
    keep_ms = str(int(keep_result_s * 1000))
    facts = (prepared.job, token, *sizes, str(head_start_ms), *bounds, keep_ms, run or "", CANCELLED)
    outbox = redis if isinstance(redis, AutoPipeline) else AutoPipeline(redis)
    try:
        _, (state, depth) = await outbox.send(
            ("SET", keys.staged(token), prepared.payload, "EX", str(STAGED_S)),
            ("EVAL", _ENQUEUE, "1", keys.root, *facts),
        )
    except OutOfMemoryError as error:
        raise QueueFull(
            f"Redis has reached its maxmemory, so the queue {keys.queue} takes nothing now; "
            "try again later, or give Redis more",
            retry_after_s=MEMORY_RETRY_S,
        ) from error
    if state == b"full":
        raise QueueFull(
            f"the queue {keys.queue} is full ({depth} jobs waiting, limits {limits.max_jobs} jobs and "
            f"{limits.max_bytes} bytes); try again later",
            retry_after_s=FULL_RETRY_S,
        )
    if state == b"lost":
        raise QueueUnavailable("Redis dropped the payload before it was accepted; check its memory policy")
    return Submission(prepared.job, joined=state == b"joined")


def _priority(value: Priority | str) -> Priority:
    try:
        return Priority(value)
    except ValueError:
        known = ", ".join(Priority)
        raise InvalidOption(f"priority must be one of {known}, not {value!r:.60}") from None
