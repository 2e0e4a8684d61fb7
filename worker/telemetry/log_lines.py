"""Logs batches and jobs."""

import structlog

from worker.telemetry.events import BatchEvent, JobEvent

log = structlog.stdlib.get_logger(__name__)


def log_batch(event: BatchEvent) -> None:
    """Log a batch at debug level."""
    log.debug(
        "batch",
        texts=event.num_texts,
        tokens=event.num_tokens,
        cost_tokens=event.cost_tokens,
        budget_tokens=event.budget_tokens,
        seconds=round(event.seconds, 4),
    )


def log_job(event: JobEvent) -> None:
    """Log a job."""
    log.info(
        "job",
        id=event.job,
        code=event.code,
        texts=event.num_texts,
        failed=event.num_failed,
        truncated=event.num_truncated,
        tokens=event.num_tokens,
        repeated=event.num_repeated,
        cached=event.num_cache_hits,
        tries=event.tries,
        waited_s=round(event.waited_s, 3),
        seconds=round(event.seconds, 3),
    )
