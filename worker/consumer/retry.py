"""Retries writing a job's outcome until Redis accepts it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from producer.backoff import Backoff

log = structlog.stdlib.get_logger(__name__)

_BACKOFF = Backoff(first_s=0.1, max_s=2.0, jitter=(0.5, 1.0))


async def retry_until_written(write: Callable[[], Awaitable[bool]], job: str) -> bool:
    """The result of `write` once Redis has accepted it; `write` is fenced, so a retry never writes twice.

    The job is done and only its outcome is unwritten, so running it again would gain nothing: an outage, full
    memory or a read-only replica does not cost a try. Only a cancellation ends the retries early.
    """
    num_failures = 0
    while True:
        try:
            return await write()
        except (RedisError, OSError) as error:
            log.warning("not_written_yet", job=job, error=str(error))
        num_failures += 1
        await asyncio.sleep(_BACKOFF.pause_s(num_failures))
