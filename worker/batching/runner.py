"""Runs batches on the device from the one thread that owns it, two in flight at a time."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import structlog

from producer.errors import BackendDead, BackendError, BackendOutOfMemory
from worker.backends.token_batches import embed_one_by_one, take
from worker.batching.batcher import Batcher, all_finite
from worker.batching.pace import Pace
from worker.batching.packing import Budget
from worker.batching.pending import Batch
from worker.contract import Backend, FloatArray, Handle
from worker.telemetry.activity import Activity, Stage, Work
from worker.telemetry.events import BatchEvent

log = structlog.stdlib.get_logger(__name__)

MAX_IN_FLIGHT = 2
GROW_AFTER_BATCHES = 64  # successful batches after which a budget that was cut grows again


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Launched:
    """A batch on the device, and its entry in what is under way."""

    batch: Batch
    handle: Handle
    started_s: float
    work: Work


class Runner:
    """Runs the batcher's batches on a backend until the batcher is closed.

    A batch that fails is halved until the text at fault is alone, and only that text fails; so does a text
    whose vector is not finite even when computed alone. Running out of memory also halves the budget, which
    grows back later; `pace` bounds it by time. BackendDead or any unexpected error ends the thread, fails
    all pending jobs and is passed to `on_death`. What is on the device is noted in `activity`.
    """

    def __init__(
        self,
        backend: Backend,
        batcher: Batcher,
        *,
        pace: Pace,
        activity: Activity,
        on_batch: Callable[[BatchEvent], None],
        on_death: Callable[[BaseException], None],
    ) -> None:
        self._backend = backend
        self._batcher = batcher
        self._pace = pace
        self._activity = activity
        self._on_batch = on_batch
        self._on_death = on_death
        self._full_tokens = self._memory_tokens = batcher.budget.max_tokens
        self._num_good_batches = 0
        self._last_end_s = 0.0
        self._in_flight: deque[_Launched] = deque()
        self._set_budget()
        self._thread = threading.Thread(target=self._run, name="embedmill-runner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Wait for the batches in flight and free the device; close the batcher first."""
        self._thread.join(timeout=30)
        self._backend.close()

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as error:  # the batches' error boundary: the thread never ends unnoticed
            dead = error if isinstance(error, BackendDead) else BackendDead(f"the backend failed: {error!r}")
            self._batcher.close(dead)
            self._on_death(dead)

    def _loop(self) -> None:
        while True:
            batch = self._batcher.next_batch(block=not self._in_flight)
            if batch is None and not self._in_flight:
                return
            if batch is not None:
                self._launch(batch)
                if len(self._in_flight) < MAX_IN_FLIGHT:
                    continue
            self._collect_oldest()

    def _launch(self, batch: Batch) -> None:
        started_s, work = time.perf_counter(), self._begin(batch)
        try:
            handle = self._backend.launch(batch.tokens)
        except BackendError as error:
            self._activity.end(work)
            self._recover(batch, error)
        else:
            self._in_flight.append(_Launched(batch=batch, handle=handle, started_s=started_s, work=work))

    def _collect_oldest(self) -> None:
        oldest = self._in_flight.popleft()
        try:
            vectors = self._backend.collect(oldest.handle)
        except BackendError as error:
            self._activity.end(oldest.work)
            self._recover(oldest.batch, error)
            return
        self._deliver(oldest.batch, self._finite(oldest.batch, vectors), oldest.started_s)
        self._activity.end(oldest.work)

    def _begin(self, batch: Batch) -> Work:
        """Note that the batch goes to the device, and how long it may be there."""
        expected_s = self._pace.expected_s(self._cost(batch))
        return self._activity.begin(Stage.DEVICE, *batch.jobs, expected_s=expected_s)

    def _cost(self, batch: Batch) -> int:
        lengths = batch.tokens.lengths
        return int(lengths.max()) * len(batch) if self._backend.padded else int(lengths.sum())

    def _collect_all(self) -> None:
        """Collect all batches in flight: handles must be collected in the order of their launch."""
        while self._in_flight:
            self._collect_oldest()

    def _finite(self, batch: Batch, vectors: FloatArray) -> FloatArray:
        """Recompute rows that are not finite, each alone, as other texts in the batch may be at fault."""
        if len(batch) == 1 or all_finite(vectors):
            return vectors
        suspects = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        self._collect_all()
        try:
            vectors[suspects] = embed_one_by_one(self._backend, take(batch.tokens, suspects))
        except BackendDead:
            raise
        except BackendError as error:
            log.warning("not_recomputed", error=str(error))
        return vectors

    def _deliver(self, batch: Batch, vectors: FloatArray, started_s: float) -> None:
        if len(vectors) != len(batch):
            raise BackendDead(f"the backend returned {len(vectors)} vectors for {len(batch)} texts")
        budget_tokens = self._batcher.budget.max_tokens
        self._batcher.deliver(batch, vectors)
        now_s = time.perf_counter()
        busy_s, self._last_end_s = now_s - max(started_s, self._last_end_s), now_s
        cost_tokens = self._cost(batch)
        self._pace.learn(cost_tokens, busy_s, budget_tokens=budget_tokens)
        self._num_good_batches += 1
        if self._num_good_batches % GROW_AFTER_BATCHES == 0:
            self._memory_tokens = min(self._full_tokens, self._memory_tokens * 5 // 4)
        self._set_budget()
        self._on_batch(
            BatchEvent(
                num_texts=len(batch),
                num_tokens=int(batch.tokens.lengths.sum()),
                cost_tokens=cost_tokens,
                budget_tokens=budget_tokens,
                seconds=now_s - started_s,
                busy_s=busy_s,
            )
        )

    def _recover(self, batch: Batch, error: BackendError) -> None:
        """Compute a failed batch in halves, or fail its only text."""
        if isinstance(error, BackendDead):
            raise error
        self._collect_all()
        if isinstance(error, BackendOutOfMemory):
            self._num_good_batches = 0
            self._memory_tokens = max(1, self._batcher.budget.max_tokens // 2)
            self._set_budget()
        if len(batch) == 1:
            self._batcher.fail(batch, error.code, f"the backend cannot embed it: {error}")
            return
        for half in batch.halves():
            started_s, work = time.perf_counter(), self._begin(half)
            try:
                vectors = self._backend.collect(self._backend.launch(half.tokens))
            except BackendError as again:
                self._activity.end(work)
                self._recover(half, again)
            else:
                self._deliver(half, vectors, started_s)
                self._activity.end(work)

    def _set_budget(self) -> None:
        """Bound the next batches by memory and by time."""
        max_tokens = self._pace.bounded(self._memory_tokens)
        if max_tokens != self._batcher.budget.max_tokens:
            budget: Budget = replace(self._batcher.budget, max_tokens=max_tokens)
            self._batcher.budget = budget
