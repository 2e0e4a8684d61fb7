"""An ending is written in the end: what Redis refuses, or is away for, is tried again as long as we run."""

import asyncio
import random
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import RedisError

log = structlog.stdlib.get_logger(__name__)

FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 2.0


async def retry_until_written(write: Callable[[], Awaitable[bool]], job: str) -> bool:
    """What `write` says once Redis took it; it is fenced, so that trying again never writes twice.

    The job is done and only its ending is not written, so nothing is gained by running it again: an
    outage, no memory left or a replica that takes no writes burns no try. It ends by cancellation.
    """
    pause_s = FIRST_PAUSE_S
    while True:
        try:
            return await write()
        except (RedisError, OSError) as error:
            log.warning("not_written_yet", job=job, error=str(error))
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(MAX_PAUSE_S, 2 * pause_s)
