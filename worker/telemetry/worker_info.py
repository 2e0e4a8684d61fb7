"""The information that a worker publishes about itself, in Redis and to its parent."""

import os
import socket
import time

from producer.contract import WorkerRecord, encode_record
from selection import Choice, Profile, Standing
from worker.telemetry.counters import Counters
from worker.telemetry.report import Report, State


class WorkerInfo:
    """Facts fixed at the start, and the current counters; thread-safe."""

    def __init__(
        self, *, name: str, model: str, revision: str, profile: Profile, choice: Choice, counters: Counters
    ) -> None:
        verdict = choice.verdict(profile.id)
        self._name = name
        self._model = model
        self._revision = revision
        self._profile = profile
        self._device = verdict.gpu.name if verdict.gpu is not None else profile.device
        self._reason = "pinned" if choice.pinned else verdict.reason
        self._profiles_failed = {
            each.profile.name: each.reason for each in choice.verdicts if each.standing is Standing.FAILED
        }
        self._counters = counters
        self._ready_s = time.monotonic()

    def encoded(self, *, hung: bool = False) -> bytes:
        """The worker's record as Redis keeps it."""
        counters = self._counters
        record = WorkerRecord(
            name=self._name,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=self._device,
            model=self._model,
            revision=self._revision,
            profile=self._profile.name,
            profile_id=self._profile.id,
            precision=self._profile.precision,
            reason=self._reason,
            ready_for_s=time.monotonic() - self._ready_s,
            jobs_done=sum(dict(counters.jobs).values()),
            texts_done=counters.texts,
            tokens_done=counters.tokens,
            failures=dict(+counters.texts_failed),  # without those that did not happen
            profiles_failed=self._profiles_failed,
            batches=counters.batches,
            batch_texts=counters.batch_texts,
            batch_tokens=counters.batch_tokens,
            batch_cost_tokens=counters.batch_cost_tokens,
            batch_budget_tokens=counters.batch_budget_tokens,
            busy_s=counters.busy_s,
            state="hung" if hung else "serving",
        )
        return encode_record(record)

    def report(self, state: State) -> Report:
        """The report for the parent process, with every counter."""
        return Report(
            state=state,
            profile={
                "device_name": self._device,
                "profile": self._profile.name,
                "profile_id": self._profile.id,
                "backend": self._profile.backend,
                "precision": self._profile.precision,
            },
            profiles_failed=tuple(self._profiles_failed),
            numbers=self._counters.numbers(),
        )
