"""What `worker top` shows: queues above, workers below, for a terminal of 80 columns or more."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from producer.contract import WorkerRecord
from producer.queue.status import QueueStatus
from producer.terminal import spoken
from worker.cli.rates import Rates

_UNITS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def screen(
    queues: Sequence[QueueStatus], rates: Rates, *, title: str, trouble: str = "", expand: bool = True
) -> RenderableType:
    """The whole screen, as wide as the terminal if `expand`; `trouble` is why it is old, or empty."""
    parts: list[RenderableType] = [_line(title, "dim")]
    if trouble:
        parts.append(_line(trouble, "bold red"))
    if queues:
        parts += [Text(), _queues(queues, rates, expand=expand)]
    elif not trouble:
        parts += [Text("\nno queues")]
    for queue in queues:
        if queue.workers:
            parts += [Text(), _line(queue.queue, "dim"), _workers(queue.workers, rates, expand=expand)]
            parts += _failed_profiles(queue.workers)
        parts += [
            _line(f"what worker {name} tells cannot be read: {why}", "yellow")
            for name, why in queue.unread_workers.items()
        ]
    return Group(*parts)


def queues_json(queues: Sequence[QueueStatus], rates: Rates) -> list[dict[str, Any]]:
    """The same for programs: each queue's status with its rate, each worker's record with its rates."""
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
            Text(queue.queue),
            compact(queue.pending),
            "" if queue.next_age_s is None else spoken(queue.next_age_s),
            compact(queue.running),
            compact(queue.num_bytes),
            "" if rate is None else compact(rate),
            Text(compact(queue.dead), style="red" if queue.dead else ""),
            Text(compact(queue.num_workers), style="" if queue.num_workers else "red"),
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
        _End(f"{worker.host}:{worker.pid}"),
        Text(worker.device.removeprefix("NVIDIA ")),
        Text(worker.profile),
        "" if rate is None else compact(rate.texts_per_s),
        "" if rate is None else compact(rate.tokens_per_s),
        "" if rate is None else f"{rate.busy:.0%}",
        "" if rate is None or rate.fill is None else f"{rate.fill:.0%}",
        Text(compact(failed), style="red" if failed else ""),
    ]


class _End:
    """A name whose end tells it from others, as pods' names do: cut at its start."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(len(self._name), 12), len(self._name))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        yield Text(self._name if len(self._name) <= room else "…" + self._name[1 - room :], no_wrap=True)


def _failed_profiles(workers: Sequence[WorkerRecord]) -> list[Text]:
    return [
        _line(f"{worker.host}:{worker.pid} could not use {name}: {reason}", "yellow")
        for worker in workers
        for name, reason in worker.profiles_failed.items()
    ]


def _line(words: str, style: str) -> Text:
    return Text(" ".join(words.split()), style=style, no_wrap=True, overflow="ellipsis")


def _table(*headings: str, num_names: int, expand: bool) -> Table:
    """The first columns are names, which give way where it is narrow; the rest are numbers, which do not."""
    table = Table(box=None, expand=expand, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings[:num_names]:
        table.add_column(heading, no_wrap=True, overflow="ellipsis", ratio=1 if expand else None)
    for heading in headings[num_names:]:
        table.add_column(heading, no_wrap=True, justify="right", min_width=len(heading))
    return table


def compact(number: float) -> str:
    """At most five characters: 999, 12.3k, 1.50M."""
    for size, unit in _UNITS:
        if number >= size * 0.9995:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.0f}" if number >= 9.95 or number == int(number) else f"{number:.1f}"
