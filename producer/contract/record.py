"""What a worker tells about itself while it lives."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """One worker process: where and what it is, why it serves with that profile, and what it has done.

    `reason` may be empty: the profile was the best-ranked that runs. `profiles_failed` is the reason of each
    profile that did not load or verify here, `failures` the number of texts by code. What begins with `batch`
    was computed on the device, whether or not its job has been answered; `batch_cost_tokens` counts padding,
    `batch_budget_tokens` what the batches might have cost, `busy_s` the time with a batch in flight. Those
    are 0 in the record of a worker of an older release.
    """

    name: str
    host: str
    pid: int
    device: str
    model: str
    revision: str
    profile: str
    profile_id: str
    precision: str
    reason: str
    ready_for_s: float
    jobs_done: int
    texts_done: int
    tokens_done: int
    failures: Mapping[str, int]
    profiles_failed: Mapping[str, str]
    batches: int = 0
    batch_texts: int = 0
    batch_tokens: int = 0
    batch_cost_tokens: int = 0
    batch_budget_tokens: int = 0
    busy_s: float = 0.0
