"""Reads the state of all queues under one prefix: jobs, live workers, dead letters."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from producer.contract import DEAD_KEPT_S, Keys, WorkerRecord, decode_record
from producer.errors import PayloadError
from producer.queue.dead_letters import number
from producer.terminal import format_duration

NO_KEY = -2  # what PTTL says of a key that is not there; of one without an end it says -1
_SCAN_COUNT = 1000  # keys per round trip


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """One queue at one moment.

    While it is `paused` no worker claims a job of it; `resumes_in_s` is None if the pause has no end.
    `running` includes jobs that pause before their next try, `num_bytes` is the size of the texts of pending
    and running jobs, and `next_age_s` the age of the job that is claimed next (None if none is pending). The
    other counts cover the life of the queue. `unread_workers` maps live workers whose record is damaged or of
    another version to the reason why it cannot be read.
    """

    queue: str
    paused: bool
    resumes_in_s: float | None
    pending: int
    running: int
    num_bytes: int
    next_age_s: float | None
    done: int
    failed: int
    cancelled: int
    lost_leases: int
    dead: int
    workers: tuple[WorkerRecord, ...]
    unread_workers: Mapping[str, str]

    @property
    def num_workers(self) -> int:
        """Live workers, including those whose record cannot be read."""
        return len(self.workers) + len(self.unread_workers)


def pause_note(queue: QueueStatus) -> str | None:
    """What to tell people of a queue that is paused, None of one that is not."""
    if not queue.paused:
        return None
    left_s = queue.resumes_in_s
    until = "until `producer resume`" if left_s is None else f"for another {format_duration(left_s)}"
    return f"queue {queue.queue} is paused {until}: no worker claims its jobs"


async def read_status(redis: Redis, prefix: str) -> tuple[QueueStatus, ...]:
    """The state of all queues under the prefix, sorted by name. Raises redis-py's errors."""
    return tuple([await read_queue(redis, Keys(name, prefix)) for name in await _queues(redis, prefix)])


async def _queues(redis: Redis, prefix: str) -> list[str]:
    """The names of queues that have or had jobs or workers, or are paused."""
    literal = re.sub(r"([\\*?\[\]])", r"\\\1", prefix)
    pattern = re.compile(re.escape(prefix) + r":\{([^{}]*)\}:(?:totals|workers|pending|paused)", re.DOTALL)
    keys = [key async for key in redis.scan_iter(match=f"{literal}:{{*}}:[ptw]*", count=_SCAN_COUNT)]
    found = (pattern.fullmatch(key.decode(errors="replace")) for key in keys)
    return sorted({match[1] for match in found if match})


async def read_queue(redis: Redis, keys: Keys) -> QueueStatus:
    """The state of one queue. Raises redis-py's errors."""
    seconds, micros = await redis.time()
    now_ms = seconds * 1000 + micros // 1000
    async with redis.pipeline(transaction=True) as pipe:
        pipe.zcard(keys.pending)
        pipe.zcard(keys.leases)
        pipe.hgetall(keys.totals)
        pipe.zrange(keys.pending, 0, 0)
        pipe.zcount(keys.dead_letters, now_ms - int(DEAD_KEPT_S * 1000), "+inf")
        pipe.zrangebyscore(keys.workers, now_ms, "+inf")
        pipe.pttl(keys.paused)
        pending, running, totals, head, dead, names, pause_ms = await pipe.execute()
    workers, unread = await _workers(redis, keys, [name.decode(errors="replace") for name in names])
    counts = {name.decode(errors="replace"): number(count) or 0 for name, count in totals.items()}
    return QueueStatus(
        queue=keys.queue,
        paused=pause_ms != NO_KEY,
        resumes_in_s=pause_ms / 1000 if pause_ms >= 0 else None,
        pending=pending,
        running=running,
        num_bytes=counts.get("bytes", 0),
        next_age_s=await _age_s(redis, keys, head[0], now_ms) if head else None,
        done=counts.get("done", 0),
        failed=counts.get("failed", 0),
        cancelled=counts.get("cancelled", 0),
        lost_leases=counts.get("lost_leases", 0),
        dead=dead,
        workers=workers,
        unread_workers=unread,
    )


async def _workers(
    redis: Redis, keys: Keys, names: Sequence[str]
) -> tuple[tuple[WorkerRecord, ...], dict[str, str]]:
    workers, unread = [], {}
    records = await redis.mget([keys.worker(name) for name in names]) if names else []
    for name, record in zip(names, records, strict=True):
        try:
            if record is not None:  # None: the worker has just left
                workers.append(decode_record(record))
        except PayloadError as error:
            unread[name] = str(error)
    return tuple(workers), unread


async def _age_s(redis: Redis, keys: Keys, job: bytes, now_ms: int) -> float | None:
    enqueued: Any = redis.execute_command("HGET", keys.job("").encode() + job, "enqueued")
    try:
        since_ms = number(await enqueued)
    except ResponseError:  # a key of another type
        return None
    return None if since_ms is None else max(0, now_ms - since_ms) / 1000
