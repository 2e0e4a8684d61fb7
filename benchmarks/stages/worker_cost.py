"""What a text costs the worker process, thread by thread, when the device is as fast as a GPU.

    python -m benchmarks.stages.worker_cost [--mean-tokens 20] [--batch-texts 512] [--in-flight 64]
        [--embedding-type float16] [--tokens-per-s 14.8e6] [--batch-tokens 67584] [--seconds 6]

Requests are encoded before and answers are not read, so that on few cores too the worker is what is measured.
The device is benchmarks/stages/stand_in.py; at 20 and 177 tokens all-MiniLM-L6-v2 in fp16 does 14.8 and
13.5 million tokens a second on an H100.
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
    """The worker with the stand-in, from ready until it is ended."""
    env = {**os.environ, "EMBEDMILL_REDIS_URL": url, "EMBEDMILL_MODEL": MODEL}
    command = [sys.executable, "-m", "benchmarks.stages.stand_in", *device]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if pipe(process.stdout).readline() != "ready\n":
                raise SystemExit("the worker did not come up")
            yield process
        finally:
            process.terminate()


async def measure(
    arguments: argparse.Namespace, url: str, jobs: list[PreparedJob], process: subprocess.Popen[str]
) -> str:
    """What there is to tell, once caches are warm."""
    server = server_process(url)
    done: asyncio.Queue[str] = asyncio.Queue()
    async with (
        connect(url) as client,
        subscribed(client, KEYS.notifications, lambda job: done.put_nowait(job.decode())),
    ):
        outbox, coming = AutoPipeline(client), cycle(jobs)
        await asyncio.gather(*(enqueue(outbox, next(coming)) for _ in range(arguments.in_flight)))
        await keep_full(outbox, coming, done, WARM_UP_S)
        before, server_s, started_s = report(process), cpu_s([server]), time.perf_counter()
        num_texts = await keep_full(outbox, coming, done, arguments.seconds)
        after, seconds = report(process), time.perf_counter() - started_s
        costs = {
            name: (used - before["threads_s"].get(name, 0)) / num_texts * 1e6
            for name, used in after["threads_s"].items()
        }
        server_us = (cpu_s([server]) - server_s) / num_texts * 1e6
    busy = (after["busy_s"] - before["busy_s"]) / seconds
    told = ", ".join(f"{name} {cost:.2f}" for name, cost in sorted(costs.items()) if cost >= 0.05)
    return (
        f"{num_texts / seconds:,.0f} texts/s, device busy {busy:.0%}; us a text: "
        f"worker {sum(costs.values()):.2f} ({told}), server {server_us:.2f}"
    )


async def keep_full(
    outbox: AutoPipeline, coming: Iterator[PreparedJob], done: asyncio.Queue[str], seconds: float
) -> int:
    """Enqueue a job for each that is done, and remove its answer unread; how many texts were answered."""
    until_s, num_texts = time.perf_counter() + seconds, 0
    while time.perf_counter() < until_s:
        ended = [await done.get()]
        while not done.empty():
            ended.append(done.get_nowait())
        for job in ended:
            outbox.post(("UNLINK", KEYS.result(job)))
        new = [next(coming) for _ in ended]
        await asyncio.gather(*(enqueue(outbox, job) for job in new))
        num_texts += sum(job.num_texts for job in new)
    return num_texts


async def enqueue(outbox: AutoPipeline, job: PreparedJob) -> None:
    """Put it on the queue."""
    await submit(outbox, KEYS, job, limits=_LIMITS, keep_result_s=60)


def report(process: subprocess.Popen[str]) -> Any:
    """What the worker tells about itself."""
    pipe(process.stdin).write("\n")
    pipe(process.stdin).flush()
    return json.loads(pipe(process.stdout).readline())


def pipe(stream: IO[str] | None) -> IO[str]:
    """The stream, which is there."""
    assert stream is not None
    return stream


if __name__ == "__main__":
    main()
