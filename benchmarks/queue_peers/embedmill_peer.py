"""Embedmill with one worker process and its parent; the fake profile's vectors have 384 dimensions."""

import asyncio
import sys
from collections.abc import Sequence

from benchmarks.queue_peers.task import Peer
from producer import Client

MODEL = "fake/echo"
WORKER = [sys.executable, "-m", "worker", "run"]


async def opened(url: str) -> Peer:
    """A client of the server at `url`."""
    client = await Client(url, model=MODEL).__aenter__()

    async def many(texts: Sequence[str]) -> int:
        replies = await asyncio.gather(*(client.embed([text], timeout_s=120) for text in texts))
        return sum(reply.ok for reply in replies)

    return Peer(many, lambda: client.__aexit__(None, None, None))
