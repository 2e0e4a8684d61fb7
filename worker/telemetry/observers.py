"""Observers that log and count every batch and every job."""

from dataclasses import dataclass

from worker.telemetry.counters import Counters
from worker.telemetry.events import BatchEvent, JobEvent
from worker.telemetry.log_lines import log_batch, log_job


@dataclass(frozen=True, slots=True)
class BatchObserver:
    """Logs and counts computed batches; called in the runner's thread."""

    counters: Counters

    def batch_computed(self, event: BatchEvent) -> None:
        """Log and count a computed batch."""
        log_batch(event)
        self.counters.count_batch(event)


@dataclass(frozen=True, slots=True)
class JobObserver:
    """Logs ended jobs, and counts them and lost leases; called in the event loop."""

    counters: Counters

    def job_ended(self, event: JobEvent) -> None:
        """Log and count a job that has ended, text by text or as a whole."""
        log_job(event)
        self.counters.count_job(event)

    def lease_lost(self) -> None:
        """Count a lost lease: another worker may run the job that still runs here."""
        self.counters.count_lost_lease()
