"""Jobs of one text beside bulk jobs of long texts: how long each waits, and what that costs the bulk.

    python -m benchmarks.end_to_end.urgent [--model all-MiniLM-L6-v2] [--mean-tokens 200] [--texts 1500]
        [--rounds 3] [--before CHECKOUT] [--json FILE]

In each round the kinds of worker take turns: batches bounded by time, batches bounded by memory alone and,
with `--before`, the worker of another checkout. Each computes the same bulk, three jobs at once, while a
client sends one text after the other, half a second apart, of normal and of high priority by turns. On a
machine that others use, texts for each second of the worker's processor time compare better than texts a
second.
"""

import argparse
import asyncio
import json
import os
import statistics
import time
from pathlib import Path

from benchmarks.end_to_end.gpu import machine
from benchmarks.support.serving import cpu_s, host
from benchmarks.support.texts import texts
from producer import Client, EmbedOptions
from producer.embedded.services import EmbeddedServer
from producer.queue.enqueue import Priority

OPTIONS = EmbedOptions(truncate="END")
NUM_JOBS = 3
PAUSE_S = 0.5
PRIORITIES = (Priority.NORMAL, Priority.HIGH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--mean-tokens", type=float, default=200)
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    kinds = {"bounded by time": {}, "by memory alone": {"EMBEDMILL_MAX_BATCH_S": "0"}}
    if arguments.before:
        kinds["before"] = {"PYTHONPATH": str(arguments.before), "PYTHONSAFEPATH": "1"}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
    for number in range(arguments.rounds):
        bulk = list(texts(arguments.texts, mean_tokens=arguments.mean_tokens, seed=number))
        for name, variables in kinds.items():
            with EmbeddedServer() as server:
                env = {"EMBEDMILL_REDIS_URL": server.url, "EMBEDMILL_MODEL": arguments.model, **variables}
                with host({**os.environ, **env}) as started:
                    before_s = cpu_s(started.workers)
                    row = asyncio.run(measure(server.url, arguments.model, bulk))
                    row["texts_per_cpu_s"] = len(bulk) / (cpu_s(started.workers) - before_s)
            rounds[name].append(row)
            print(f"{name:<16}" + "".join(f"  {key} {value:8.2f}" for key, value in row.items()), flush=True)
    for name, rows in rounds.items():
        pairs = list(zip(rounds["bounded by time"], rows, strict=True))
        for key in ("texts_per_s", "texts_per_cpu_s"):
            shares = [row[key] / other[key] for row, other in pairs]
            print(f"{key} bounded by time / {name}: median {statistics.median(shares):.3f} of {len(shares)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rounds": rounds}, indent=2) + "\n")


async def measure(url: str, model: str, bulk: list[str]) -> dict[str, float]:
    """One round with one kind of worker: texts a second of the bulk, and seconds that single texts waited."""
    step = len(bulk) // NUM_JOBS
    async with Client(url, model=model) as client:
        await client.embed(["warm-up"])
        started_s = time.monotonic()
        jobs = [bulk[start : start + step] for start in range(0, step * NUM_JOBS, step)]
        sent = [(await client.submit(job, options=OPTIONS)).job for job in jobs]
        results = asyncio.gather(*(client.result(job, timeout_s=3600) for job in sent))
        waited: dict[Priority, list[float]] = {priority: [] for priority in PRIORITIES}
        number = 0
        while not results.done():
            await asyncio.sleep(PAUSE_S)
            priority = PRIORITIES[number % len(PRIORITIES)]
            sent_s = time.monotonic()
            await client.embed([f"one text, number {number}"], priority=priority, timeout_s=3600)
            if not results.done():  # else it met nothing
                waited[priority].append(time.monotonic() - sent_s)
            number += 1
        await results
        bulk_s = time.monotonic() - started_s
    row = {"texts_per_s": step * NUM_JOBS / bulk_s}
    for priority, seconds in waited.items():
        if seconds:
            row |= {f"{priority}_p50_s": statistics.median(seconds), f"{priority}_max_s": max(seconds)}
    return row


if __name__ == "__main__":
    main()
