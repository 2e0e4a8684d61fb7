"""What this worker tells about itself as long as it lives."""

import os
import socket
import time
from collections import Counter
from dataclasses import replace

from producer.contract import Failure, WorkerRecord, encode_record
from selection import Choice, Profile, Standing
from worker.jobs import JobEvent
from worker.leases import Claim


class Registration:
    """The worker's record: fixed at its start but for what it counts. Written by the event loop alone."""

    def __init__(self, *, name: str, model: str, revision: str, profile: Profile, choice: Choice) -> None:
        verdict = choice.verdict(profile.id)
        self._record = WorkerRecord(
            name=name,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=verdict.gpu.name if verdict.gpu is not None else profile.device,
            model=model,
            revision=revision,
            profile=profile.name,
            profile_id=profile.id,
            precision=profile.precision,
            reason="pinned" if choice.pinned else verdict.reason,
            ready_for_s=0.0,
            jobs_done=0,
            texts_done=0,
            tokens_done=0,
            failures={},
            profiles_failed={
                each.profile.name: each.reason for each in choice.verdicts if each.standing is Standing.FAILED
            },
        )
        self._ready_s = time.monotonic()
        self._failures: Counter[str] = Counter()

    def count(self, event: JobEvent) -> None:
        """A job was answered, text by text or as a whole."""
        self._failures.update(event.failures)
        self._record = replace(
            self._record,
            jobs_done=self._record.jobs_done + 1,
            texts_done=self._record.texts_done + event.num_texts - event.num_failed,
            tokens_done=self._record.tokens_done + event.num_tokens,
            failures=dict(self._failures),
        )

    def count_given_up(self, claim: Claim, failure: Failure) -> None:
        """A job was given up without an answer of its own."""
        self._failures[failure.code] += claim.num_texts
        self._record = replace(self._record, failures=dict(self._failures))

    def encoded(self) -> bytes:
        """The record as it is now, from any thread."""
        return encode_record(replace(self._record, ready_for_s=time.monotonic() - self._ready_s))
