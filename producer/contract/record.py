"""The record that a live worker publishes about itself."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

_UNIQUE_PART = re.compile(r":[0-9a-f]{8}\Z")


def worker_label(name: str) -> str:
    """A worker's name as every command shows it: host and process id, without what makes it unique."""
    return _UNIQUE_PART.sub("", name)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """One worker process: where it runs, what it serves, why with that profile, and what it has done.

    `reason` is empty if the profile is simply the best-ranked runnable one. `profiles_failed` says why other
    profiles did not load or verify here, `failures` is the number of failed texts by code. The fields that
    begin with `batch` count what was computed on the device, answered or not: `batch_cost_tokens` includes
    padding, `batch_budget_tokens` is the sum of the batches' token budgets; `busy_s` is the time with a batch
    in flight. `state` is `serving`, or `hung` in the moments before a worker that does not move ends. Those
    with a default may be missing from the record of a worker of an older release.
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
    state: str = "serving"
