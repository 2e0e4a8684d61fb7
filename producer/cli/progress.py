"""Shows the progress of a run, on a terminal or in a log."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from producer.bulk import Summary
from producer.terminal import format_duration

PLAIN_EVERY_S = 5.0


class ProgressDisplay:
    """A progress bar on a TTY, a line every few seconds elsewhere, nothing if quiet; a context manager."""

    def __init__(self, console: Console, *, quiet: bool, plain_every_s: float = PLAIN_EVERY_S) -> None:
        self._console = console
        self._quiet = quiet
        self._plain_every_s = plain_every_s
        self._next_line_s = time.monotonic() + plain_every_s
        self._bar = Progress(
            TextColumn("{task.completed:,.0f} texts"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rates]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("embed", total=None, rates="waiting for the first reply")

    def update(self, summary: Summary) -> None:
        """Show the progress so far."""
        if not self._bar.disable:
            total = summary.estimated_texts
            self._bar.update(self._task, completed=summary.num_texts, total=total, rates=_rates(summary))
        elif not self._quiet and time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + self._plain_every_s
            self._console.print(f"{summary.num_texts:,} texts{_of_total(summary)}, {_rates(summary)}")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _rates(summary: Summary) -> str:
    rates = f"{summary.texts_per_s:,.0f} texts/s, {summary.tokens_per_s:,.0f} tokens/s"
    return f"{rates}, {summary.num_failed:,} failed" if summary.num_failed else rates


def _of_total(summary: Summary) -> str:
    total = summary.estimated_texts
    num_now = summary.num_texts - summary.earlier.num_texts
    if not total or not num_now:
        return ""
    left_s = summary.seconds * max(0, total - summary.num_texts) / num_now
    return f" of about {total:,}, {format_duration(left_s)} left"
