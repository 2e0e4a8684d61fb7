"""Measures at boot how fast a loaded backend is."""

import time

from worker.backends.token_batches import full_batch, take
from worker.contract import Backend, Tokens

_ENOUGH_S = 0.1


def measured_tokens_per_s(backend: Backend, tokens: Tokens) -> float:
    """The speed, padding included, of a batch that takes a tenth of a second or is full; after verification.

    Batches of these texts, each twice the one before, lead up to it. Raises BackendError.
    """
    full = full_batch(tokens.lengths, backend)
    count = 1
    while True:
        batch = take(tokens, full[-count:])  # the shortest first
        started_s = time.perf_counter()
        backend.collect(backend.launch(batch))
        seconds = time.perf_counter() - started_s
        if seconds >= _ENOUGH_S or count == len(full):
            cost = int(batch.lengths.max()) * len(batch) if backend.padded else int(batch.lengths.sum())
            return cost / max(seconds, 1e-6)
        count = min(2 * count, len(full))
