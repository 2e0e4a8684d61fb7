"""taskiq with one process, on its Redis streams."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from benchmarks.queue_peers.task import POLL_S, RESULT_KEPT_S, Peer, as_ascii, gathered

WORKER = [
    *(sys.executable, "-m", "taskiq", "worker", "benchmarks.queue_peers.taskiq_peer:broker"),
    *("--workers", "1", "--log-level", "WARNING"),
]
URL = os.environ.get("PEER_URL", "redis://")
broker = RedisStreamBroker(url=URL).with_result_backend(
    RedisAsyncResultBackend(redis_url=URL, result_ex_time=RESULT_KEPT_S)
)


async def answer(text: str) -> str:
    """The job."""
    return as_ascii(text)


embed = broker.register_task(answer, task_name="embed")


async def opened(url: str) -> Peer:
    """A client of the server at PEER_URL, which is `url`."""
    assert url == URL
    await broker.startup()
    return Peer(_many, broker.shutdown)


async def _many(texts: Sequence[str]) -> int:
    sent = [await embed.kiq(text) for text in texts]

    async def result(one: Any) -> str:
        return str((await one.wait_result(check_interval=POLL_S, timeout=120)).return_value)

    return await gathered(map(result, sent))
