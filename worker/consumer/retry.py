"""Retries writing a job's outcome until Redis accepts it, or is seen never to."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

from producer.backoff import Backoff
from producer.transport.retry import TRANSIENT_ERRORS, is_permanent, memory_is_full

log = structlog.stdlib.get_logger(__name__)

_BACKOFF = Backoff(first_s=0.1, max_s=2.0, jitter=(0.5, 1.0))
_MAX_REFUSALS = 3


class OutcomeRefused(Exception):
    """Redis will never take this outcome, while it takes other commands."""


async def retry_until_written(
    write: Callable[[], Awaitable[bool]],
    job: str,
    *,
    ping: Callable[[], Awaitable[object]],
    ask_for_memory: Callable[[], Awaitable[object]],
) -> bool:
    """The result of `write` once Redis has accepted it; `write` is fenced, so a retry never writes twice.

    The job is done and only its outcome is unwritten, so running it again would gain nothing: an outage, full
    memory or a read-only replica does not cost a try. Only a cancellation ends the retries early, and
    OutcomeRefused: Redis said that waiting is in vain, or lost the connection at each of several tries while
    `ping` passed, which a value does that is too large for it or for the path to it.
    If Redis has no memory left, the outcome is sent again only once `ask_for_memory` passes.
    """
    num_failures = num_refusals = 0
    needs_memory = False
    while True:
        try:
            if not needs_memory or await _passes(ask_for_memory):
                return await write()
        except (RedisError, OSError) as error:
            log.warning("not_written_yet", job=job, error=str(error))
            needs_memory = memory_is_full(error)
            if is_permanent(error):
                raise OutcomeRefused(str(error)) from error
            lost = isinstance(error, TRANSIENT_ERRORS) and await _passes(ping)
            num_refusals = num_refusals + 1 if lost else 0
            if num_refusals >= _MAX_REFUSALS:
                raise OutcomeRefused(str(error) or "the connection is lost each time") from error
        num_failures += 1
        await asyncio.sleep(_BACKOFF.pause_s(num_failures))


async def _passes(ping: Callable[[], Awaitable[object]]) -> bool:
    try:
        await ping()
    except (RedisError, OSError):
        return False
    return True
