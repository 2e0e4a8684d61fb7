"""What is told of a batch once it was computed, and of a job once it has ended."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchEvent:
    """One batch as it was computed.

    `cost_tokens` counts padding, `budget_tokens` is what it might have cost. `seconds` runs from launch to
    vectors; of those, `busy_s` are in no earlier batch's, so that they add up to the device's busy time.
    """

    num_texts: int
    num_tokens: int
    cost_tokens: int
    budget_tokens: int
    seconds: float
    busy_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobEvent:
    """One job as it was ended; `failures` counts the failed texts by code.

    `num_repeated` texts had their vector from an equal text in flight, `num_cache_hits` from the cache;
    with the cache off there are neither hits nor misses.
    `waited_s` is the time on the queue, `seconds` the time from the claim to the answer; of those `prepare_s`
    to its tokens, `device_s` to its vectors, the turn it waited for included, and `answer_s` to the bytes.
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

    @property
    def num_failed(self) -> int:
        """Texts without a vector."""
        return sum(self.failures.values())
