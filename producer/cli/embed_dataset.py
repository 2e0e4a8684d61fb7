"""One run of `producer embed` into a directory of parts."""

from contextlib import ExitStack
from functools import partial

import click
from rich.console import Console

from producer.cli.embed_arguments import Arguments
from producer.cli.embed_queue import Connect, on_queue
from producer.cli.progress import ProgressDisplay
from producer.datasets import Dataset, RunLock, RunResult, Target, plan_dataset, run_dataset
from producer.files import Source


def run_embed_dataset(
    arguments: Arguments, sources: list[Source], connect: Connect
) -> tuple[Dataset, RunResult | None]:
    """Embed what is left of the inputs into the target; None if that is nothing.

    Raises our errors, and Interrupted on a signal; finished parts count, and the rows of the others are kept.
    """
    settings = arguments.dataset
    target = Target(arguments.output)
    with ExitStack() as stack:
        lock = RunLock(target, settings.shard)
        lock.take()
        stack.callback(lock.release)
        dataset = plan_dataset(sources, target, settings)
        if not dataset.tasks:
            return dataset, None
        _report_start(arguments, dataset)
        stack.push(_report_kept)
        display = stack.enter_context(ProgressDisplay(Console(stderr=True), quiet=arguments.quiet))
        work = partial(
            run_dataset,
            dataset=dataset,
            lock=lock,
            batch_texts=arguments.batch_texts,
            max_in_flight=arguments.max_in_flight,
            on_progress=display.update,
            on_note=lambda note: None if arguments.quiet else click.echo(note, err=True),
        )
        return dataset, on_queue(work, arguments, connect)


def _report_start(arguments: Arguments, dataset: Dataset) -> None:
    if arguments.quiet:
        return
    if dataset.finished:
        rows = sum(part.num_rows for part in dataset.finished)
        click.echo(f"{len(dataset.finished):,} parts with {rows:,} rows are done already", err=True)
    if dataset.orphans:
        click.echo(
            f"{len(dataset.orphans):,} parts of {dataset.target.location} are of inputs that are not given "
            f"now, such as {dataset.orphans[0].source}; they stay",
            err=True,
        )
    if arguments.run is not None:
        click.echo(f"run {arguments.run}", err=True)


def _report_kept(kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
    if kind is not None:
        click.echo("finished parts and the rows of others are kept; run the same command to go on", err=True)
