"""Measures the chosen profile alone: tokenized texts, two batches in flight; prints JSON.

    EMBEDMILL_MODEL=... python -m benchmarks.end_to_end.backend_alone TEXTS.jsonl

No queue, tokenization or batching during the measurement: an upper bound for the worker.
"""

import json
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np

from benchmarks.support.texts import read_texts
from producer.contract import Truncate
from worker.backends.token_batches import take
from worker.batching.packing import Budget, pack
from worker.contract import Backend, Tokens
from worker.settings import read_settings
from worker.startup.boot import boot

MIN_S = 3.0


def main() -> None:
    texts = read_texts(Path(sys.argv[1]))
    booted = boot(read_settings())
    tokens = booted.tokenizer.encode(texts, Truncate.END).tokens
    batches = packed(tokens, booted.backend)
    run(booted.backend, batches[:2])
    rounds_s: list[float] = []
    while len(rounds_s) < 3 or sum(rounds_s) < MIN_S:
        started_s = time.perf_counter()
        run(booted.backend, batches)
        rounds_s.append(time.perf_counter() - started_s)
    booted.backend.close()
    seconds = float(np.median(rounds_s))
    report = {
        "profile": booted.profile.name,
        "gpu": booted.survey.facts.gpus[0].name if booted.survey.facts.gpus else None,
        "texts_per_s": len(texts) / seconds,
        "tokens_per_s": len(tokens.ids) / seconds,
        "mean_tokens": len(tokens.ids) / len(texts),
    }
    print(json.dumps(report))


def packed(tokens: Tokens, backend: Backend) -> list[Tokens]:
    """All texts in batches, packed from a window of eight batches' worth, as the worker does."""
    budget = Budget.of(backend)
    waiting, batches = np.arange(len(tokens)), []
    while len(waiting):
        window = waiting[: 1 + int(np.searchsorted(tokens.lengths[waiting].cumsum(), 8 * budget.max_tokens))]
        chosen = pack(tokens.lengths[window], budget=budget)
        batches.append(take(tokens, window[chosen]))
        waiting = np.delete(waiting, chosen)
    return batches


def run(backend: Backend, batches: list[Tokens]) -> None:
    """Compute all batches with two in flight, as the worker's runner does."""
    in_flight: deque[object] = deque()
    for batch in batches:
        in_flight.append(backend.launch(batch))
        if len(in_flight) == 2:
            backend.collect(in_flight.popleft())
    while in_flight:
        backend.collect(in_flight.popleft())


if __name__ == "__main__":
    main()
