"""Counts the events of one worker process."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from producer.contract import JOB_FAILURES, TEXT_FAILURES, known_code
from worker.telemetry.events import BatchEvent, JobEvent

# Bounds in seconds: from one batch on a GPU to a wait on a queue that was filled overnight.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)

JOB_CODES = ("ok", *JOB_FAILURES)


class Histogram:
    """Counts the values up to each bound and above the previous one, and last those above all bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def _seconds() -> Histogram:
    return Histogram(SECONDS)


def _counted(codes: tuple[str, ...]) -> Counter[str]:
    return Counter(dict.fromkeys(codes, 0))


def _stages() -> dict[str, Histogram]:
    return {stage: _seconds() for stage in ("queue", "prepare", "device", "answer")}


@dataclass(slots=True, eq=False)
class Counters:
    """All counts since the process started.

    The runner's thread calls `count_batch` and the event loop the other methods, which write other fields;
    any thread may read.
    """

    # Counters by code exist from the start: a rate over the first increment needs the zero before it.
    jobs: Counter[str] = field(default_factory=lambda: _counted(JOB_CODES))
    job_tries: int = 0
    job_s: Histogram = field(default_factory=_seconds)
    job_stage_s: dict[str, Histogram] = field(default_factory=_stages)
    texts: int = 0
    texts_failed: Counter[str] = field(default_factory=lambda: _counted(TEXT_FAILURES))
    texts_truncated: int = 0
    tokens: int = 0
    texts_repeated: int = 0
    cache_hits: int = 0
    cache_misses: int = 0
    leases_lost: int = 0

    batches: int = 0
    batch_texts: int = 0
    batch_tokens: int = 0
    batch_cost_tokens: int = 0
    batch_budget_tokens: int = 0
    batch_s: Histogram = field(default_factory=_seconds)
    batch_fill: Histogram = field(default_factory=lambda: Histogram(SHARES))
    budget_tokens: int = 0
    busy_s: float = 0.0

    def count_batch(self, event: BatchEvent) -> None:
        """Count a computed batch."""
        self.batches += 1
        self.batch_texts += event.num_texts
        self.batch_tokens += event.num_tokens
        self.batch_cost_tokens += event.cost_tokens
        self.batch_budget_tokens += event.budget_tokens
        self.batch_s.observe(event.seconds)
        self.batch_fill.observe(event.cost_tokens / event.budget_tokens)
        self.budget_tokens = event.budget_tokens
        self.busy_s += event.busy_s

    def count_job(self, event: JobEvent) -> None:
        """Count a job that has ended."""
        self.jobs["ok" if event.code == "ok" else known_code(event.code)] += 1
        self.job_tries += event.tries
        self.texts += event.num_texts - event.num_failed
        for code, num_texts in event.failures.items():
            self.texts_failed[known_code(code)] += num_texts
        self.texts_truncated += event.num_truncated
        self.tokens += event.num_tokens
        self.texts_repeated += event.num_repeated
        self.cache_hits += event.num_cache_hits
        self.cache_misses += event.num_cache_misses
        self.job_s.observe(event.waited_s + event.seconds)
        self.job_stage_s["queue"].observe(event.waited_s)
        if event.code == "ok":
            self.job_stage_s["prepare"].observe(event.prepare_s)
            self.job_stage_s["device"].observe(event.device_s)
            self.job_stage_s["answer"].observe(event.answer_s)

    def count_lost_lease(self) -> None:
        """Count a running job whose lease was lost."""
        self.leases_lost += 1

    def numbers(self) -> dict[str, Any]:
        """All fields by name, as values that JSON can represent."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}


def _plain(value: Any) -> Any:
    if isinstance(value, Histogram):
        return {"bounds": value.bounds, "counts": list(value.counts), "total": value.total}
    if isinstance(value, dict):
        # Copied first, in one step: the event loop may add a code during the iteration.
        return {key: _plain(one) for key, one in dict(value).items()}
    return value
