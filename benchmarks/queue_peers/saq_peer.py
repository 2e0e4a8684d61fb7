"""saq with one process and ten jobs at once, its default."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from saq import Queue

from benchmarks.queue_peers.task import RESULT_KEPT_S, Peer, as_ascii, gathered

WORKER = [sys.executable, "-m", "saq", "benchmarks.queue_peers.saq_peer.settings", "--quiet"]
URL = os.environ.get("PEER_URL", "redis://")


async def embed(context: Any, *, text: str) -> str:
    """The job."""
    return as_ascii(text)


queue = Queue.from_url(URL)
settings = {"queue": queue, "functions": [embed], "concurrency": 10}


async def opened(url: str) -> Peer:
    """A client of the server at PEER_URL, which is `url`."""
    assert url == URL
    await queue.connect()
    return Peer(_many, queue.disconnect)


async def _many(texts: Sequence[str]) -> int:
    calls = (queue.apply("embed", text=text, ttl=RESULT_KEPT_S, timeout=120) for text in texts)
    return await gathered(calls)
