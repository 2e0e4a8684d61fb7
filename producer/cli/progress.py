"""Shows the progress of a run, on a terminal or in a log."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from producer.bulk import Summary
from producer.cli.throughput import Throughput
from producer.terminal import format_duration

PLAIN_EVERY_S = 5.0
TOO_LONG = "text_too_long"  # the code of a text that the model does not take whole


class ProgressDisplay:
    """A progress bar on a TTY, a line every few seconds elsewhere, nothing if quiet; a context manager.

    Both tell the same: texts, tokens and failures, rates of the last half minute, and the time left by them.
    """

    def __init__(self, console: Console, *, quiet: bool, plain_every_s: float = PLAIN_EVERY_S) -> None:
        self._console = console
        self._quiet = quiet
        self._plain_every_s = plain_every_s
        self._next_line_s = time.monotonic() + plain_every_s
        self._throughput = Throughput()
        self._has_told_too_long = False
        self._bar = Progress(
            TextColumn("{task.completed:,.0f} texts"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[rates]}"),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._bar.add_task("embed", total=None, rates="waiting for the first reply")

    def update(self, summary: Summary) -> None:
        """Show the progress so far."""
        self._throughput.add(summary)
        if self._quiet:
            return
        if TOO_LONG in summary.failed and not self._has_told_too_long:
            self._has_told_too_long = True
            self._console.print(
                "some texts are longer than the model takes, and fail; to embed what fits of them, interrupt "
                "and start again with --truncate END (or START)",
                soft_wrap=True,
            )
        if not self._bar.disable:
            rates = f"{self._rates(summary)}{self._time_left(summary)}"
            total = summary.estimated_texts
            self._bar.update(self._task, completed=summary.num_texts, total=total, rates=rates)
        elif time.monotonic() >= self._next_line_s:
            self._next_line_s = time.monotonic() + self._plain_every_s
            of_total = f" of about {summary.estimated_texts:,}" if summary.estimated_texts else ""
            self._console.print(
                f"{summary.num_texts:,} texts{of_total}{self._time_left(summary)}, {self._rates(summary)}",
                soft_wrap=True,
            )

    def _rates(self, summary: Summary) -> str:
        texts_per_s, tokens_per_s = self._throughput.texts_per_s, self._throughput.tokens_per_s
        rates = [f"{texts_per_s:,.0f} texts/s", f"{tokens_per_s:,.0f} tokens/s"]
        if summary.num_failed:
            rates.append(f"{summary.num_failed:,} failed")
        if summary.num_truncated:
            rates.append(f"{summary.num_truncated:,} cut")
        return ", ".join(rates)

    def _time_left(self, summary: Summary) -> str:
        left_s = self._throughput.left_s(summary)
        return "" if left_s is None else f", {format_duration(left_s)} left"

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
