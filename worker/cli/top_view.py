"""The screen of `worker top`: queues above, workers below, for a terminal of 80 columns or more."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from producer.contract import WorkerRecord, worker_label
from producer.queue.status import QueueStatus, pause_note
from producer.terminal import escaped, format_duration, format_number
from worker.cli.rates import Rates


def screen(
    queues: Sequence[QueueStatus], rates: Rates, *, title: str, error: str = "", expand: bool = True
) -> RenderableType:
    """The whole screen, as wide as the terminal if `expand`; `error` says why it is out of date."""
    parts: list[RenderableType] = [_line(title, "dim")]
    if error:
        parts.append(_line(error, "bold red"))
    if queues:
        parts += [Text(), _queues(queues, rates, expand=expand)]
    elif not error:
        parts += [Text("\nno queues")]
    for queue in queues:
        if note := pause_note(queue):
            parts += [_line(note, "bold yellow")]
        if queue.workers:
            parts += [Text(), _line(queue.queue, "dim"), _workers(queue.workers, rates, expand=expand)]
            parts += _hung(queue.workers)
            parts += _failed_profiles(queue.workers)
        parts += [
            _line(f"the record of worker {worker_label(name)} cannot be read: {why}", "yellow")
            for name, why in queue.unread_workers.items()
        ]
    return Group(*parts)


def queues_json(queues: Sequence[QueueStatus], rates: Rates) -> list[dict[str, Any]]:
    """The same as JSON values: the status of each queue and the record of each worker, with their rates."""
    return [
        {
            **asdict(queue),
            "jobs_per_s": rates.jobs_per_s(queue.queue),
            "workers": [
                {**asdict(one), "rates": asdict(of_one) if (of_one := rates.of_worker(one.name)) else None}
                for one in queue.workers
            ],
        }
        for queue in queues
    ]


def _queues(queues: Sequence[QueueStatus], rates: Rates, *, expand: bool) -> Table:
    headings = ("queue", "pending", "age", "running", "bytes", "jobs/s", "dead", "workers")
    table = _table(*headings, num_names=1, expand=expand)
    for queue in queues:
        rate = rates.jobs_per_s(queue.queue)
        table.add_row(
            Text(escaped(queue.queue)),
            format_number(queue.pending),
            "" if queue.next_age_s is None else format_duration(queue.next_age_s),
            format_number(queue.running),
            format_number(queue.num_bytes),
            "" if rate is None else format_number(rate),
            Text(format_number(queue.dead), style="red" if queue.dead else ""),
            Text(format_number(queue.num_workers), style="" if queue.num_workers else "red"),
        )
    return table


def _workers(workers: Sequence[WorkerRecord], rates: Rates, *, expand: bool) -> Table:
    headings = ("worker", "device", "profile", "texts/s", "tokens/s", "busy", "fill", "failed")
    table = _table(*headings, num_names=3, expand=expand)
    for worker in workers:
        table.add_row(*_worker(worker, rates))
    return table


def _worker(worker: WorkerRecord, rates: Rates) -> list[RenderableType]:
    rate = rates.of_worker(worker.name)
    failed = sum(worker.failures.values())
    return [
        _CutAtStart(escaped(worker_label(worker.name))),
        Text(escaped(worker.device.removeprefix("NVIDIA "))),
        Text(escaped(worker.profile)),
        "" if rate is None else format_number(rate.texts_per_s),
        "" if rate is None else format_number(rate.tokens_per_s),
        "" if rate is None else f"{rate.busy:.0%}",
        "" if rate is None or rate.fill is None else f"{rate.fill:.0%}",
        Text(format_number(failed), style="red" if failed else ""),
    ]


class _CutAtStart:
    """A name that is cut at its start where space is short: names of pods differ at the end."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self._name), 12), len(self._name))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        yield Text(self._name if len(self._name) <= room else "…" + self._name[1 - room :], no_wrap=True)


def _hung(workers: Sequence[WorkerRecord]) -> list[Text]:
    return [
        _line(f"{worker.host}:{worker.pid} hangs, and ends: its log says where", "bold red")
        for worker in workers
        if worker.state == "hung"
    ]


def _failed_profiles(workers: Sequence[WorkerRecord]) -> list[Text]:
    return [
        _line(f"{worker_label(worker.name)} could not use {name}: {reason}", "yellow")
        for worker in workers
        for name, reason in worker.profiles_failed.items()
    ]


def _line(words: str, style: str) -> Text:
    return Text(escaped(" ".join(words.split())), style=style, no_wrap=True, overflow="ellipsis")


def _table(*headings: str, num_names: int, expand: bool) -> Table:
    """A table of names, which are cut if need be, followed by numbers, which are not."""
    table = Table(box=None, expand=expand, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings[:num_names]:
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1 if expand else None)
    for heading in headings[num_names:]:
        table.add_column(heading, no_wrap=True, justify="right", min_width=len(heading))
    return table
