"""Plain arq with one process and ten jobs at once, its default."""

import os
import sys
from collections.abc import Sequence
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings

from benchmarks.queue_peers.task import POLL_S, RESULT_KEPT_S, Peer, as_bytes, gathered

WORKER = [sys.executable, "-m", "arq", "benchmarks.queue_peers.arq_peer.WorkerSettings"]
URL = os.environ.get("PEER_URL", "redis://")


async def embed(context: Any, text: str) -> bytes:
    """The job."""
    return as_bytes(text)


class WorkerSettings:
    """What arq's worker reads."""

    functions = (embed,)
    redis_settings = RedisSettings.from_dsn(URL)
    keep_result = RESULT_KEPT_S


async def opened(url: str) -> Peer:
    """A client of the server at `url`."""
    pool = await create_pool(RedisSettings.from_dsn(url))

    async def many(texts: Sequence[str]) -> int:
        sent = [await pool.enqueue_job("embed", text) for text in texts]
        waits = (one.result(timeout=120, poll_delay=POLL_S) for one in sent if one is not None)
        return await gathered(waits)

    return Peer(many, pool.aclose)
