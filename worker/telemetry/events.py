"""Events of a worker process: a batch was computed, a job has ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from worker.telemetry.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEvent:
    """One computed batch.

    `cost_tokens` includes padding and is at most `budget_tokens`. `seconds` runs from launch to vectors;
    `busy_s` leaves out the overlap with the batch before, so that the sum over batches is the busy time.
    """

    num_texts: int
    num_tokens: int
    cost_tokens: int
    budget_tokens: int
    seconds: float
    busy_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One job that has ended; `code` is "ok" if it was answered text by text, else that of its failure.

    `failures` counts the failed texts by code. `num_repeated` texts got the vector of an equal text in flight
    and `num_cache_hits` theirs from the cache; without a cache there are neither hits nor misses.
    `waited_s` is the time on the queue, `seconds` the time from the claim to the answer. Of the latter,
    `prepare_s` lasted until its tokens were ready, `device_s` until its vectors were, waiting for a batch
    included, and `answer_s` until the reply was encoded.
    """

    job: str
    num_texts: int
    failures: Mapping[str, int]
    num_truncated: int
    num_tokens: int
    waited_s: float
    seconds: float
    code: str
    tries: int = 1
    num_repeated: int = 0
    num_cache_hits: int = 0
    num_cache_misses: int = 0
    prepare_s: float = 0.0
    device_s: float = 0.0
    answer_s: float = 0.0

    @classmethod
    def answered(
        cls,
        job: str,
        watch: Stopwatch,
        *,
        tries: int,
        waited_s: float,
        num_texts: int,
        failures: Mapping[str, int],
        num_truncated: int,
        num_tokens: int,
        num_repeated: int,
        num_cache_hits: int,
        num_cache_misses: int,
    ) -> Self:
        """A job that was answered text by text; its stages are the laps of `watch`."""
        return cls(
            job=job,
            num_texts=num_texts,
            failures=failures,
            num_truncated=num_truncated,
            num_tokens=num_tokens,
            waited_s=waited_s,
            seconds=watch.seconds,
            code="ok",
            tries=tries,
            num_repeated=num_repeated,
            num_cache_hits=num_cache_hits,
            num_cache_misses=num_cache_misses,
            prepare_s=watch["prepare"],
            device_s=watch["device"],
            answer_s=watch["answer"],
        )

    @classmethod
    def failed(
        cls, job: str, *, code: str, num_texts: int, tries: int, waited_s: float, seconds: float = 0.0
    ) -> Self:
        """A job that failed as a whole, and with it each of its texts."""
        return cls(
            job=job,
            num_texts=num_texts,
            failures={code: num_texts},
            num_truncated=0,
            num_tokens=0,
            waited_s=waited_s,
            seconds=seconds,
            code=code,
            tries=tries,
        )

    @property
    def num_failed(self) -> int:
        """Texts without a vector."""
        return sum(self.failures.values())
