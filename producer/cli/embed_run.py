"""One run of `producer embed`: opens the files, connects to a queue and works until done or interrupted."""

import asyncio
import os
import shlex
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console

from producer.bulk import BatchEmbedder, Summary, embed_file
from producer.cli.progress import ProgressDisplay
from producer.cli.signals import until_interrupted
from producer.contract import EmbeddingType, EmbedOptions, InputType, Truncate
from producer.embedded.services import EmbeddedServer, EmbeddedWorker
from producer.errors import FileError, QueueError
from producer.files import Columns, InputFormat, Output, OutputFormat, open_reader
from producer.transport.connect import end_tasks

_CHECK_EVERY_S = 0.5
_NO_WORKER_S, _NO_WORKER_AGAIN_S = 3.0, 60.0
_STDIN = "-"


class Connect(Protocol):
    """Makes a client."""

    def __call__(
        self, redis_url: str, *, model: str, prefix: str, run: str | None, wait_for_worker_s: float
    ) -> AbstractAsyncContextManager[BatchEmbedder]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """The parsed command line."""

    source: str
    output: Path
    model: str
    format: InputFormat | None
    output_format: OutputFormat | None
    text_column: str
    id_column: str | None
    input_type: InputType | None
    prompt_name: str | None
    truncate: Truncate
    dimensions: int | None
    embedding_type: EmbeddingType
    redis_url: str = field(repr=False)
    prefix: str
    run: str | None
    embedded: bool
    restart: bool
    batch_texts: int
    max_in_flight: int
    wait_for_worker: float
    quiet: bool


def run_embed(arguments: Arguments, connect: Connect) -> tuple[Summary, Output]:
    """Embed the input into the output; report on stderr what the user should know meanwhile.

    Raises our errors, and Interrupted on a signal; what is done by then is kept, so that the same command
    resumes.
    """
    options = EmbedOptions(
        input_type=arguments.input_type,
        prompt_name=arguments.prompt_name,
        truncate=arguments.truncate,
        dimensions=arguments.dimensions,
        embedding_type=arguments.embedding_type,
    )
    with ExitStack() as stack:
        reader = stack.enter_context(
            open_reader(
                arguments.source,
                arguments.format,
                columns=Columns(text=arguments.text_column, id=arguments.id_column),
            )
        )
        for note in () if arguments.quiet else reader.notes:
            click.echo(note, err=True)
        _refuse_to_replace_input(arguments.source, arguments.output)
        output = Output(
            arguments.output,
            arguments.output_format,
            id_type=reader.id_type,
            options=options,
            identity=_identity(arguments),
            restart=arguments.restart,
        )
        stack.callback(_report_kept, output)
        stack.enter_context(output)
        _report_start(arguments, output)
        url, check = stack.enter_context(_queue(arguments))
        display = stack.enter_context(ProgressDisplay(Console(stderr=True), quiet=arguments.quiet))
        work = partial(
            embed_file,
            reader=reader,
            output=output,
            options=options,
            batch_texts=arguments.batch_texts,
            max_in_flight=arguments.max_in_flight,
            on_progress=display.update,
        )
        client = partial(
            connect,
            url,
            model=arguments.model,
            prefix=arguments.prefix,
            run=arguments.run,
            wait_for_worker_s=arguments.wait_for_worker,
        )
        summary = asyncio.run(until_interrupted(_work(work, client, check, arguments)))
        return summary, output


async def _work(
    work: Callable[[BatchEmbedder], Coroutine[Any, Any, Summary]],
    connect: Callable[[], AbstractAsyncContextManager[BatchEmbedder]],
    check: Callable[[], None],
    arguments: Arguments,
) -> Summary:
    """Do the work; `check` is called periodically, and ends the work by raising."""
    async with connect() as client:
        task = asyncio.create_task(work(client))
        watch = asyncio.create_task(_watch_for_workers(client, arguments.model))
        try:
            while not task.done():
                check()
                await asyncio.wait({task}, timeout=_CHECK_EVERY_S)
        finally:
            task.cancel()
            await asyncio.wait({task})
            await end_tasks(watch)
            if client.num_withdrawn and not arguments.embedded:  # whose queue ends with it
                jobs = "1 job" if client.num_withdrawn == 1 else f"{client.num_withdrawn:,} jobs"
                click.echo(f"{jobs} cancelled on the queue", err=True)
        return task.result()


async def _watch_for_workers(client: BatchEmbedder, model: str) -> None:
    """Report that no worker serves the queue: one may be starting, or the model's name may be wrong."""
    await asyncio.sleep(_NO_WORKER_S)
    while True:
        with suppress(QueueError):  # the work itself reports it
            if await client.num_workers() == 0:
                click.echo(
                    f"no worker serves {model!r} yet, so the texts stay on the queue; "
                    f"start one: EMBEDMILL_MODEL={shlex.quote(model)} worker run",
                    err=True,
                )
        await asyncio.sleep(_NO_WORKER_AGAIN_S)


@contextmanager
def _queue(arguments: Arguments) -> Iterator[tuple[str, Callable[[], None]]]:
    """The queue's URL, and a check that raises once the embedded server or worker has ended."""
    if not arguments.embedded:
        yield arguments.redis_url, lambda: None
        return
    with (
        EmbeddedServer() as server,
        EmbeddedWorker(redis_url=server.url, model=arguments.model, prefix=arguments.prefix) as worker,
    ):

        def check() -> None:
            server.check()
            worker.check()

        yield server.url, check


def _identity(arguments: Arguments) -> dict[str, str | int | None] | None:
    """What determines the rows, under human-readable names; None if the input cannot be read twice."""
    if arguments.source == _STDIN:
        return None
    facts = os.stat(arguments.source)
    return {
        "input": os.path.realpath(arguments.source),
        "size of the input": facts.st_size,
        "modification time of the input": facts.st_mtime_ns,
        "--format": arguments.format,
        "--text-column": arguments.text_column,
        "--id-column": arguments.id_column,
        "--output-format": arguments.output_format,
        "--model": arguments.model,
        "--input-type": arguments.input_type,
        "--prompt-name": arguments.prompt_name,
        "--truncate": arguments.truncate,
        "--dimensions": arguments.dimensions,
        "--embedding-type": arguments.embedding_type,
    }


def _report_start(arguments: Arguments, output: Output) -> None:
    if output.unusable:
        click.echo(f"starting over: {output.unusable}", err=True)
    if arguments.quiet:
        return
    if output.earlier.num_texts:
        click.echo(f"resuming after the {output.earlier.num_texts:,} rows of an interrupted run", err=True)
    if arguments.run is not None:
        click.echo(f"run {arguments.run}", err=True)


def _report_kept(output: Output) -> None:
    if output.num_kept:
        click.echo(
            f"{output.num_kept:,} rows are kept beside {output.path}; run the same command to resume",
            err=True,
        )


def _refuse_to_replace_input(source: str, target: Path) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise FileError(f"{target}: is also the input; choose another output path")
