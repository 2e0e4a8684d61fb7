"""dramatiq with one process of eight threads, its default for threads, and its results in Redis."""

import os
import sys
from collections.abc import Sequence

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.queue_peers.task import RESULT_KEPT_S, Peer, as_ascii, nothing

WORKER = [
    *(sys.executable, "-m", "dramatiq", "benchmarks.queue_peers.dramatiq_peer"),
    *("--processes", "1", "--threads", "8"),
]
URL = os.environ.get("PEER_URL", "redis://")
broker = RedisBroker(url=URL)
broker.add_middleware(Results(backend=RedisBackend(url=URL), result_ttl=RESULT_KEPT_S * 1000))
dramatiq.set_broker(broker)
embed = dramatiq.actor(as_ascii, actor_name="embed", store_results=True)


async def opened(url: str) -> Peer:
    """A client of the server at PEER_URL, which is `url`."""
    assert url == URL
    return Peer(_many, nothing)


async def _many(texts: Sequence[str]) -> int:
    sent = [embed.send(text) for text in texts]
    return sum(len(one.get_result(block=True, timeout=120_000)) > 0 for one in sent)
