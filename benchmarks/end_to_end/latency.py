"""Latency with a nearly empty queue: one text at a time, ten per second, and a burst.

    python -m benchmarks.end_to_end.latency [--model all-MiniLM-L6-v2] [--mean-tokens 20] [--texts 500]
        [--json FILE]

One client, one worker and an embedded server on a Unix socket, all on this machine. `one at a time` submits
the next text as soon as the result arrives; `ten a second` submits at a fixed rate, regardless of texts in
flight; `burst` submits 64 texts at once, each as a separate job, and measures until each vector arrives.
"""

import argparse
import asyncio
import json
import os
import time
from pathlib import Path

import numpy as np

from benchmarks.end_to_end.gpu import machine
from benchmarks.support.serving import host
from benchmarks.support.texts import texts
from producer import Client, EmbedOptions
from producer.embedded.services import EmbeddedServer

BURST_TEXTS = 64
PERIOD_S = 0.1
OPTIONS = EmbedOptions(truncate="END")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--mean-tokens", type=float, default=20)
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sample = list(texts(arguments.texts, mean_tokens=arguments.mean_tokens))
    with EmbeddedServer() as server:
        env = {**os.environ, "EMBEDMILL_REDIS_URL": server.url, "EMBEDMILL_MODEL": arguments.model}
        with host(env):
            rows = asyncio.run(measure(server.url, arguments.model, sample))
    for name, row in rows.items():
        print(f"{name:<16} p50 {row['p50_ms']:7.2f} ms   p99 {row['p99_ms']:7.2f} ms   {row['texts']} texts")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": rows}, indent=2) + "\n")


async def measure(url: str, model: str, sample: list[str]) -> dict[str, dict[str, float]]:
    """Measure all rows, by name."""
    async with Client(url, model=model) as client:
        for text in sample[:20]:
            await one_text(client, f"warm-up {text}")
        ten_a_second = sample[: min(len(sample), 100)]
        return {
            "one at a time": row([await one_text(client, text) for text in sample]),
            "ten a second": row(await at_fixed_rate(client, [f"again {text}" for text in ten_a_second])),
            "burst": row(await bursts(client, [f"burst {text}" for text in sample])),
        }


async def one_text(client: Client, text: str) -> float:
    """The seconds from submitting a text to receiving its vector."""
    started_s = time.perf_counter()
    await client.embed([text], OPTIONS)
    return time.perf_counter() - started_s


async def at_fixed_rate(client: Client, sample: list[str]) -> list[float]:
    """Submit a text every tenth of a second, regardless of texts in flight."""
    tasks = []
    for text in sample:
        tasks.append(asyncio.create_task(one_text(client, text)))
        await asyncio.sleep(PERIOD_S)
    return list(await asyncio.gather(*tasks))


async def bursts(client: Client, sample: list[str]) -> list[float]:
    """Submit all texts of a burst at once, burst after burst."""
    taken_s: list[float] = []
    for first in range(0, len(sample), BURST_TEXTS):
        burst = sample[first : first + BURST_TEXTS]
        taken_s += await asyncio.gather(*(one_text(client, text) for text in burst))
    return taken_s


def row(taken_s: list[float]) -> dict[str, float]:
    """The statistics of one way of submitting."""
    p50, p99 = np.percentile(taken_s, [50, 99]) * 1000
    return {"p50_ms": float(p50), "p99_ms": float(p99), "texts": len(taken_s)}


if __name__ == "__main__":
    main()
