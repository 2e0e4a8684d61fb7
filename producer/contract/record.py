"""What a worker tells about itself while it lives."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """One worker process: where and what it is, why it serves with that profile, and what it has done.

    `reason` may be empty: the profile was the best-ranked that runs. `profiles_failed` is the reason of each
    profile that did not load or verify here, `failures` the number of texts by code.
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
