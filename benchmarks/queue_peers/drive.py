"""Measures one queue, in the interpreter that has it: prints a JSON object.

PEER_URL=redis://... python -m benchmarks.queue_peers.drive NAME NUM_JOBS
"""

import asyncio
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from typing import Any

from redis import Redis

IDLE_S = 5.0
NUM_LONE = 100
WARM_UP = 50
GRACE_S = 5.0
BOOT_S = 5.0


async def measure(module: Any, url: str, num_jobs: int) -> dict[str, float]:
    """The columns of the README for the queue of this module."""
    server = Redis.from_url(url)
    await asyncio.sleep(BOOT_S)  # saq sweeps what it finds when it starts
    peer = await module.opened(url)
    try:
        await all_done(peer, "warm", WARM_UP)
        await asyncio.sleep(1.0)
        before = num_commands(server)
        await asyncio.sleep(IDLE_S)
        idle_per_s = (num_commands(server) - before) / IDLE_S
        taken_s, before, started_s = [], num_commands(server), time.perf_counter()
        for number in range(NUM_LONE):
            sent_s = time.perf_counter()
            await all_done(peer, f"lone {number}", 1)
            taken_s.append(time.perf_counter() - sent_s)
        idle = idle_per_s * (time.perf_counter() - started_s)
        per_job = (num_commands(server) - before - idle) / NUM_LONE
        started_s = time.perf_counter()
        await all_done(peer, "bulk", num_jobs)
        seconds = time.perf_counter() - started_s
    finally:
        await peer.close()
    return {
        "jobs_per_s": num_jobs / seconds,
        "p50_ms": statistics.median(taken_s) * 1000,
        "commands_per_job": per_job,
        "idle_commands_per_s": idle_per_s,
    }


async def all_done(peer: Any, name: str, count: int) -> None:
    """Raises AssertionError if a result is missing."""
    texts = [f"{name} {number}".ljust(60, ".") for number in range(count)]
    assert await peer.many(texts) == count


def num_commands(server: "Redis") -> int:
    """What the server has executed, but for this."""
    stats: Any = server.info("commandstats")
    return sum(one["calls"] for name, one in stats.items() if not name.endswith("_info"))


def end(worker: "subprocess.Popen[bytes]") -> None:
    """In order if it does so soon; then whatever is left of its processes."""
    worker.terminate()
    with suppress(subprocess.TimeoutExpired):
        worker.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


def main() -> None:
    name, num_jobs = sys.argv[1], int(sys.argv[2])
    module = importlib.import_module(f"benchmarks.queue_peers.{name}_peer")
    worker = subprocess.Popen(module.WORKER, stdout=sys.stderr, start_new_session=True)
    try:
        found = asyncio.run(measure(module, os.environ["PEER_URL"], num_jobs))
    finally:
        end(worker)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
