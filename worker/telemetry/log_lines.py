"""Who is told of a batch or a job: the log here, and whoever else listens."""

import logging
from collections.abc import Callable
from typing import TypeVar

from worker.telemetry.events import BatchEvent, JobEvent

log = logging.getLogger(__name__)

_Event = TypeVar("_Event")


def to_all(*listeners: Callable[[_Event], None]) -> Callable[[_Event], None]:
    """Tell every listener, in this order."""

    def tell(event: _Event) -> None:
        for listener in listeners:
            listener(event)

    return tell


def log_batch(event: BatchEvent) -> None:
    """One line a batch, for those who look closely."""
    log.debug(
        "batch texts=%d tokens=%d cost_tokens=%d budget_tokens=%d seconds=%.4f",
        event.num_texts,
        event.num_tokens,
        event.cost_tokens,
        event.budget_tokens,
        event.seconds,
    )


def log_job(event: JobEvent) -> None:
    """One line a job."""
    log.info(
        "job id=%s code=%s texts=%d failed=%d truncated=%d tokens=%d repeated=%d cached=%d tries=%d "
        "waited_s=%.3f seconds=%.3f",
        event.job,
        event.code,
        event.num_texts,
        event.num_failed,
        event.num_truncated,
        event.num_tokens,
        event.num_repeated,
        event.num_cache_hits,
        event.tries,
        event.waited_s,
        event.seconds,
    )
