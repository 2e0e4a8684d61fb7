"""Simulates the batcher with jobs of many sizes: padding, and the number of batches until a job is done.

    python -m benchmarks.stages.batching [--batches 3000]

Deterministic, without device or clock: 24 jobs are pending at any time, half of them with 8 texts, most
others with 512 and some with 4,096; lengths are log-normal with a mean of about 60 tokens, and a batch has up
to 16,384 tokens.
"""

import argparse
import asyncio

import numpy as np

from worker.batching.batcher import Batcher
from worker.batching.packing import Budget
from worker.batching.pending import Embedded
from worker.contract import Tokens

NUM_PENDING = 24
BATCH_TOKENS = 16_384
SIZES, SHARES = (8, 512, 4096), (0.5, 0.45, 0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--batches", type=int, default=3000)
    arguments = parser.parse_args()
    for padded in (True, False):
        asyncio.run(simulate(padded=padded, num_batches=arguments.batches))


async def simulate(*, padded: bool, num_batches: int) -> None:
    """Print a row for each job size, and the share of the cost that is tokens."""
    random = np.random.default_rng(0)
    batcher = Batcher(Budget(max_tokens=BATCH_TOKENS, max_texts=4096, padded=padded), dim=1)
    pending: dict[asyncio.Task[Embedded], int] = {}
    waits: dict[int, list[int]] = {size: [] for size in SIZES}
    num_tokens = cost_tokens = 0
    for number in range(num_batches):
        while len(pending) < NUM_PENDING:
            job = tokens(random, int(random.choice(SIZES, p=SHARES)))
            pending[asyncio.create_task(batcher.embed(job))] = number
        await settled()
        batch = batcher.next_batch(block=False)
        assert batch is not None
        lengths = batch.tokens.lengths
        num_tokens += int(lengths.sum())
        cost_tokens += int(lengths.max()) * len(lengths) if padded else BATCH_TOKENS
        batcher.deliver(batch, np.zeros((len(batch), 1), dtype=np.float32))
        await settled()
        for task in [task for task in pending if task.done()]:
            waits[len(task.result().vectors)].append(number + 1 - pending.pop(task))
    for task in pending:
        task.cancel()
    kind = "padded" if padded else "flat"
    for size, seen in waits.items():
        p50, p99 = np.percentile(seen, [50, 99])
        print(f"| {kind} | {size} | {len(seen)} | {p50:.0f} | {p99:.0f} | {max(seen)} |")
    print(f"{kind}: {num_tokens / cost_tokens:.3f} of the cost is tokens")


def tokens(random: np.random.Generator, count: int) -> Tokens:
    """A job with `count` texts."""
    lengths = np.clip(np.round(random.lognormal(np.log(60) - 0.18, 0.6, count)), 1, 256)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    return Tokens(np.ones(offsets[-1], dtype=np.int32), offsets)


async def settled() -> None:
    """Let tasks run that were just created or completed."""
    for _ in range(3):
        await asyncio.sleep(0)


if __name__ == "__main__":
    main()
