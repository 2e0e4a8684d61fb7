"""A client's options, which can be taken anywhere, and what it holds open in one event loop."""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Self

from producer.contract import DEFAULT_PREFIX, Keys, queue_name, run_name
from producer.errors import InvalidOption
from producer.queue.awaited import AwaitedJobs
from producer.queue.backpressure import Backpressure
from producer.queue.cancel import Cancellation
from producer.queue.dead_letters import DeadLetters
from producer.queue.enqueue import QueueLimits, check_kept
from producer.queue.listing import QueuedJobs
from producer.queue.notifications import Notifications
from producer.queue.pause import QueuePause
from producer.queue.results import Results
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import (
    DEFAULT_URL,
    OUTAGE_S,
    connect,
    redis_errors,
    shards_messages,
    subscribed,
)
from producer.transport.retry import OutageBudget
from producer.transport.url import parse

_FLUSH_S = 1.0  # for deleting results that were read; those left over expire


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What a client is made of, checked: all that is pickled of it, or used again in a forked process."""

    redis_url: str = field(default=DEFAULT_URL, repr=False)
    model: str
    prefix: str = DEFAULT_PREFIX
    limits: QueueLimits = field(default_factory=QueueLimits)
    keep_result_s: float = 600.0
    run: str | None = None
    outage_s: float = 60.0
    wait_for_worker_s: float = 60.0

    def __post_init__(self) -> None:
        parse(self.redis_url)
        queue_name(self.model)
        check_kept(self.keep_result_s)
        if self.run is not None:
            run_name(self.run)
        wait_s = self.wait_for_worker_s
        if type(wait_s) not in (int, float) or not wait_s >= 0:
            raise InvalidOption(
                f"wait_for_worker_s must be seconds, or math.inf to wait for ever, not {wait_s!r:.60}"
            )

    @property
    def keys(self) -> Keys:
        """The names of the queue's keys."""
        return Keys(queue_name(self.model), self.prefix)


class QueueConnection:
    """The parts of an open client, which share one Redis client, one pipeline and one subscription."""

    def __init__(self, options: ClientOptions) -> None:
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self.keys = keys = options.keys
        self._outage_budget = OutageBudget(min(OUTAGE_S, options.outage_s))
        self.redis = redis = connect(options.redis_url, outage_budget=self._outage_budget)
        self.notifications = Notifications()
        self._pipeline = AutoPipeline(redis)
        workers = WorkerWatch(
            redis,
            self._pipeline,
            keys,
            model=options.model,
            url=options.redis_url,
            wait_s=options.wait_for_worker_s,
        )
        self.cancellation = Cancellation(redis, keys, self._pipeline)
        self.dead_letters = DeadLetters(redis, keys)
        self.jobs = QueuedJobs(redis, keys)
        self.pause = QueuePause(redis, keys)
        self.backpressure = Backpressure(
            self._pipeline,
            keys,
            self.notifications,
            workers,
            url=options.redis_url,
            limits=options.limits,
            keep_result_s=options.keep_result_s,
        )
        self._closing = AsyncExitStack()
        self.results = Results(self._pipeline, keys, options.redis_url, workers, self.notifications)
        self.awaited = AwaitedJobs(
            self.backpressure,
            self.results,
            self.notifications,
            self.cancellation,
            url=options.redis_url,
        )

    @property
    def is_ours(self) -> bool:
        """True in the event loop and the process in which it was opened."""
        return self._pid == os.getpid() and self._loop is asyncio.get_running_loop()

    @classmethod
    async def open(cls, options: ClientOptions) -> Self:
        """A connection that listens for answers. Raises QueueUnavailable soon if there is no Redis."""
        connection = cls(options)
        async with AsyncExitStack() as closing:
            closing.push_async_callback(connection.redis.aclose)
            with redis_errors(options.redis_url):
                # Leads to the node of a cluster that holds the queue: its scripts see who listens there.
                await connection.redis.exists(connection.keys.pending)
                if await shards_messages(connection.redis):
                    connection.notifications.use_shard()
                listening = subscribed(
                    connection.redis,
                    connection.keys.notifications(connection.notifications.client),
                    connection.notifications.on_message,
                    on_connection=connection.notifications.on_connection,
                    sharded=connection.notifications.is_sharded,
                )
                await closing.enter_async_context(listening)
            connection._outage_budget.outage_s = options.outage_s
            closing.push_async_callback(connection._pipeline.flush, timeout_s=_FLUSH_S)
            closing.callback(connection.results.flush)
            closing.push_async_callback(connection.awaited.close)
            connection._closing = closing.pop_all()
        return connection

    async def close(self) -> None:
        """Withdraw the jobs that are awaited, send what was posted, and close every connection."""
        await self._closing.aclose()
