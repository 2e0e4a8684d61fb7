"""CPU time per text of the worker process, by thread, with a device that is as fast as a GPU.

    python -m benchmarks.stages.worker_cost [--mean-tokens 20] [--batch-texts 512] [--in-flight 64]
        [--embedding-type float16] [--tokens-per-s 14.8e6] [--batch-tokens 67584] [--seconds 6]

Requests are encoded beforehand and results are not read, so that the worker is the bottleneck even on few
cores. The device is simulated by benchmarks/stages/stand_in.py; on an H100, all-MiniLM-L6-v2 in fp16 computes
14.8 and 13.5 million tokens/s at means of 20 and 177 tokens.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import IO, Any

from benchmarks.support.serving import cpu_s, server_process
from benchmarks.support.texts import texts
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.queue.enqueue import PreparedJob, QueueLimits, prepare_job, submit
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import connect, subscribed

MODEL = "fake/echo"
KEYS = Keys(queue_name(MODEL))
CLIENT = "benchmark"
WARM_UP_S = 2.0
_LIMITS = QueueLimits()


def main() -> None:
    arguments = parse()
    num_texts = max(60_000, 4 * arguments.in_flight * arguments.batch_texts)
    some = list(texts(num_texts, mean_tokens=arguments.mean_tokens))
    options = EmbedOptions(truncate="END", embedding_type=arguments.embedding_type)
    size = arguments.batch_texts
    jobs = [
        prepare_job(build_request(MODEL, some[at : at + size], options)) for at in range(0, len(some), size)
    ]
    device = [str(arguments.tokens_per_s), str(arguments.batch_tokens)]
    with EmbeddedServer() as server, worker(server.url, device) as process:
        print(asyncio.run(measure(arguments, server.url, jobs, process)))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--mean-tokens", type=float, default=20)
    parser.add_argument("--batch-texts", type=int, default=512)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--embedding-type", default="float16")
    parser.add_argument("--tokens-per-s", type=float, default=14.8e6)
    parser.add_argument("--batch-tokens", type=int, default=67_584)
    parser.add_argument("--seconds", type=float, default=6)
    return parser.parse_args()


@contextmanager
def worker(url: str, device: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The worker with the simulated device, from ready until terminated."""
    env = {**os.environ, "EMBEDMILL_REDIS_URL": url, "EMBEDMILL_MODEL": MODEL}
    command = [sys.executable, "-m", "benchmarks.stages.stand_in", *device]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if pipe(process.stdout).readline() != "ready\n":
                raise SystemExit("the worker did not start")
            yield process
        finally:
            process.terminate()


async def measure(
    arguments: argparse.Namespace, url: str, jobs: list[PreparedJob], process: subprocess.Popen[str]
) -> str:
    """Measure with warm caches and return the report."""
    server = server_process(url)
    done: asyncio.Queue[str] = asyncio.Queue()
    async with (
        connect(url) as client,
        subscribed(client, KEYS.notifications(CLIENT), lambda ended: tell(ended, done)),
    ):
        pipeline, coming = AutoPipeline(client), cycle(jobs)
        await asyncio.gather(*(enqueue(pipeline, next(coming)) for _ in range(arguments.in_flight)))
        await keep_full(pipeline, coming, done, WARM_UP_S)
        before, server_s, started_s = report(process), cpu_s([server]), time.perf_counter()
        num_texts = await keep_full(pipeline, coming, done, arguments.seconds)
        after, seconds = report(process), time.perf_counter() - started_s
        costs = {
            name: (used - before["threads_s"].get(name, 0)) / num_texts * 1e6
            for name, used in after["threads_s"].items()
        }
        server_us = (cpu_s([server]) - server_s) / num_texts * 1e6
    busy = (after["busy_s"] - before["busy_s"]) / seconds
    by_thread = ", ".join(f"{name} {cost:.2f}" for name, cost in sorted(costs.items()) if cost >= 0.05)
    return (
        f"{num_texts / seconds:,.0f} texts/s, device busy {busy:.0%}; us per text: "
        f"worker {sum(costs.values()):.2f} ({by_thread}), server {server_us:.2f}"
    )


async def keep_full(
    pipeline: AutoPipeline, coming: Iterator[PreparedJob], done: asyncio.Queue[str], seconds: float
) -> int:
    """Enqueue a job for each that is done and delete its result unread; the number of texts done."""
    until_s, num_texts = time.perf_counter() + seconds, 0
    while time.perf_counter() < until_s:
        ended = [await done.get()]
        while not done.empty():
            ended.append(done.get_nowait())
        for job in ended:
            pipeline.post(("UNLINK", KEYS.result(job)))
        new = [next(coming) for _ in ended]
        await asyncio.gather(*(enqueue(pipeline, job) for job in new))
        num_texts += sum(job.num_texts for job in new)
    return num_texts


async def enqueue(pipeline: AutoPipeline, job: PreparedJob) -> None:
    """Enqueue a job."""
    await submit(pipeline, KEYS, job, limits=_LIMITS, keep_result_s=60, client=CLIENT)


def tell(message: bytes, done: asyncio.Queue[str]) -> None:
    """Pass on the ids of jobs that have ended."""
    for job in message.decode().lstrip("=").split():
        done.put_nowait(job)


def report(process: subprocess.Popen[str]) -> Any:
    """The worker's report."""
    pipe(process.stdin).write("\n")
    pipe(process.stdin).flush()
    return json.loads(pipe(process.stdout).readline())


def pipe(stream: IO[str] | None) -> IO[str]:
    """The stream, which is not None."""
    assert stream is not None
    return stream


if __name__ == "__main__":
    main()
