"""A producer process of the end-to-end benchmark: enqueues its texts and receives all vectors.

    python -m benchmarks.end_to_end.producing URL MODEL TEXTS.jsonl FIRST STEP BATCH_TEXTS IN_FLIGHT TYPE

It prints `ready`, waits for a line on standard input, embeds every STEP-th batch from FIRST on, and prints
JSON: start and end on the system's monotonic clock, the duration of each job, the number of vectors.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from benchmarks.support.texts import read_texts
from producer import Client, EmbedOptions


async def produce(
    url: str, model: str, batches: list[list[str]], in_flight: int, embedding_type: str
) -> dict[str, object]:
    """Embed all batches and discard the vectors."""
    options = EmbedOptions(truncate="END", embedding_type=embedding_type)
    submitted_s: list[float] = []
    taken_s: list[float] = []
    num_vectors = 0

    async def submitting() -> AsyncIterator[list[str]]:
        for batch in batches:
            submitted_s.append(time.monotonic())
            yield batch

    async with Client(url, model=model) as client:
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        started_s, cpu_before_s = time.monotonic(), time.process_time()
        async for reply in client.embed_many(submitting(), options, max_in_flight=in_flight):
            taken_s.append(time.monotonic() - submitted_s[len(taken_s)])
            num_vectors += len(reply.vectors) - len(reply.failures)
    return {
        "started_s": started_s,
        "ended_s": time.monotonic(),
        "jobs_s": taken_s,
        "num_vectors": num_vectors,
        "cpu_s": time.process_time() - cpu_before_s,
    }


def main() -> None:
    url, model, path, first, step, batch_texts, in_flight, embedding_type = sys.argv[1:]
    texts = read_texts(Path(path))
    size = int(batch_texts)
    batches = [texts[at : at + size] for at in range(int(first) * size, len(texts), int(step) * size)]
    print(json.dumps(asyncio.run(produce(url, model, batches, int(in_flight), embedding_type))))


if __name__ == "__main__":
    main()
