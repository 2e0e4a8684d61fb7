"""Notices that no worker serves a queue, for callers whose answer does not come."""

import asyncio
import difflib
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from producer.contract import Keys, queue_name
from producer.errors import NoWorker
from producer.queue.status import NO_KEY, QueueStatus, read_status
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import redis_errors

_MIN_LOOK_S, _MAX_LOOK_S = 0.5, 5.0  # between two looks at the workers of the queue
_OTHERS_S = 2.0  # for finding the other queues, among keys that may be many
_MAX_NAMED = 10
_SIMILAR = 0.6


class WorkerWatch:
    """Raises NoWorker once no worker has been seen on a queue for `wait_s`, neither serving nor starting.

    A paused queue is waited for.

    All who wait for answers of one client share it, so that however many they are it costs one command in
    a while; whoever is answered within a second never asks.
    """

    def __init__(
        self, redis: Redis, pipeline: AutoPipeline, keys: Keys, *, model: str, url: str, wait_s: float
    ) -> None:
        self._redis = redis
        self._pipeline = pipeline
        self._keys = keys
        self._model = model
        self._url = url
        self._wait_s = wait_s
        self.look_every_s = min(max(wait_s / 10, _MIN_LOOK_S), _MAX_LOOK_S)  #: between two looks
        self._turn = asyncio.Lock()
        self._looked_s: float | None = None
        self._absent_since_s: float | None = None
        self._others: Sequence[str] | None = None

    async def check(self) -> None:
        """Look, unless someone has just done so. Raises NoWorker, QueueUnavailable."""
        if math.isinf(self._wait_s):
            return
        async with self._turn:
            now_s = asyncio.get_running_loop().time()
            if self._looked_s is None or now_s - self._looked_s >= self.look_every_s:
                await self._look(now_s)
            absent_s = 0.0 if self._absent_since_s is None else now_s - self._absent_since_s
            if self._absent_since_s is None or absent_s < self._wait_s:
                return
            if self._others is None:
                self._others = await live_models(self._redis, self._keys.prefix)
            raise NoWorker(_story(self._model, self._keys.prefix, self._others, waited_s=absent_s))

    async def _look(self, now_s: float) -> None:
        with redis_errors(self._url):
            is_served = await _is_served(self._pipeline, self._keys)
        # Between looks that are far apart nobody waited: a worker may have come and gone.
        has_watched = self._looked_s is not None and now_s - self._looked_s < 4 * self.look_every_s
        self._looked_s = now_s
        if is_served:
            self._absent_since_s = None
        elif self._absent_since_s is None or not has_watched:
            self._absent_since_s, self._others = now_s, None


async def live_models(redis: Redis, prefix: str) -> Sequence[str]:
    """The models that workers serve under the prefix, as far as they can be found in a short time."""
    with suppress(TimeoutError, RedisError, OSError):  # the right to SCAN may be missing
        async with asyncio.timeout(_OTHERS_S):
            return sorted({_served_name(one) for one in await read_status(redis, prefix) if one.num_workers})
    return ()


def nearest(model: str, models: Sequence[str]) -> str | None:
    """The model whose name is most similar, whatever its case and owner; None if none is similar."""
    by_name = {_bare(one): one for one in models}
    found = difflib.get_close_matches(_bare(model), by_name, n=1, cutoff=_SIMILAR)
    return by_name[found[0]] if found else None


async def _is_served(pipeline: AutoPipeline, keys: Keys) -> bool:
    """Whether a worker serves the queue or is about to, or the queue is paused: then one is to come."""
    (seconds, micros), pause_ms, *latest = await pipeline.send(
        ("TIME",),
        ("PTTL", keys.paused),
        ("ZRANGE", keys.workers, "-1", "-1", "WITHSCORES"),
        ("ZRANGE", keys.starting, "-1", "-1", "WITHSCORES"),
    )
    now_ms = int(seconds) * 1000 + int(micros) // 1000
    return pause_ms != NO_KEY or any(float(until_ms) > now_ms for until_ms in _scores(latest))


def _scores(latest: Sequence[Any]) -> list[bytes]:
    return [found[1] for found in latest if found]


def _served_name(queue: QueueStatus) -> str:
    """The model's name as its worker spells it, unless that is not the queue's: others wrote the record."""
    for worker in queue.workers:
        if worker.model.isprintable() and queue_name(worker.model or "?") == queue.queue:
            return worker.model
    return queue.queue if queue.queue.isprintable() else repr(queue.queue)


def _bare(model: str) -> str:
    return queue_name(model.rstrip("/").rpartition("/")[2] or model)


def _story(model: str, prefix: str, others: Sequence[str], *, waited_s: float) -> str:
    """What is wrong, what there is, and what to do."""
    told = f"no worker serves the model {model!r:.80} (waited for one for {waited_s:.0f} s)"
    if not others:
        return (
            f"{told}, and no other is seen under the prefix {prefix}; start one, or check the address and "
            "the prefix"
        )
    named = ", ".join(f"{one:.80}" for one in others[:_MAX_NAMED])
    more = f" and {len(others) - _MAX_NAMED} more" if len(others) > _MAX_NAMED else ""
    guess = nearest(model, others)
    hint = f"did you mean {guess:.80}?" if guess else "start one, or wait for longer"
    return f"{told}; workers under the prefix {prefix} serve: {named}{more}; {hint}"
