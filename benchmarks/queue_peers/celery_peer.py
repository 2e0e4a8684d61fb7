"""celery with one process, its results in Redis."""

import os
import sys
from collections.abc import Sequence

from celery import Celery

from benchmarks.queue_peers.task import RESULT_KEPT_S, Peer, as_ascii, nothing

WORKER = [
    *(sys.executable, "-m", "celery", "-A", "benchmarks.queue_peers.celery_peer", "worker"),
    *("--concurrency", "1", "--loglevel", "WARNING"),
]
URL = os.environ.get("PEER_URL", "redis://")
app = Celery("peer", broker=URL, backend=URL, broker_connection_retry_on_startup=True)
app.conf.result_expires = RESULT_KEPT_S
embed = app.task(as_ascii, name="embed")


async def opened(url: str) -> Peer:
    """A client of the server at PEER_URL, which is `url`."""
    assert url == URL
    return Peer(_many, nothing)


async def _many(texts: Sequence[str]) -> int:
    sent = [embed.delay(text) for text in texts]
    return sum(len(one.get(timeout=120)) > 0 for one in sent)
