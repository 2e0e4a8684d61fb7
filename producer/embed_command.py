"""`producer embed`: a file of texts in, a file of vectors out."""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from producer.bulk import DEFAULT_BATCH_TEXTS, DEFAULT_MAX_IN_FLIGHT, Embedder, Summary, embed_file
from producer.connection import DEFAULT_URL
from producer.contract import MAX_TEXTS_PER_JOB, EmbeddingType, EmbedOptions, InputType, Truncate
from producer.embedded import EmbeddedServer, EmbeddedWorker
from producer.errors import FileError, QueueError
from producer.exit_status import ExitStatus, exit_status
from producer.files import InputFormat, Output, OutputFormat, open_reader
from producer.progress import ProgressDisplay, summary_lines

_CHECK_EVERY_S = 0.5
_ALONE_S, _ALONE_AGAIN_S = 3.0, 60.0

Connection = AbstractAsyncContextManager[Embedder]
Connect = Callable[[str, str], Connection]  #: from Redis URL and model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Arguments:
    """The command line."""

    source: str
    output: Path
    model: str
    format: InputFormat | None
    output_format: OutputFormat | None
    text_column: str
    id_column: str | None
    input_type: InputType | None
    truncate: Truncate
    dimensions: int | None
    embedding_type: EmbeddingType
    redis_url: str = field(repr=False)
    embedded: bool
    batch_texts: int
    max_in_flight: int
    quiet: bool


def _member_option(name: str, kind: type[StrEnum], **more: Any) -> Callable[[Any], Any]:
    """An option whose value is a member of `kind`."""
    return click.option(
        name,
        type=click.Choice([member.value for member in kind]),
        callback=lambda _context, _parameter, value: None if value is None else kind(value),
        **more,
    )


@click.command(no_args_is_help=True)
@click.argument("source", metavar="IN")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="OUT")
@click.option("--model", required=True, help="The model whose queue the texts go to.")
@_member_option("--format", InputFormat, help="Format of IN, if its ending does not say it.")
@_member_option("--output-format", OutputFormat, help="Format of OUT, likewise.")
@click.option("--text-column", default="text", show_default=True)
@click.option("--id-column", help="Default: id or _id if there is one, else the row's number from 0.")
@_member_option("--input-type", InputType, help="Which of the model's prompts goes before each text.")
@_member_option("--truncate", Truncate, default=Truncate.NONE.value, show_default=True)
@click.option("--dimensions", type=int, help="Shorten the vectors, for models made for it.")
@_member_option("--embedding-type", EmbeddingType, default=EmbeddingType.FLOAT32.value, show_default=True)
@click.option("--redis-url", default=DEFAULT_URL, envvar="EMBEDMILL_REDIS_URL", show_envvar=True)
@click.option("--embedded", is_flag=True, help="Start a server and a worker for this run only.")
@click.option("--batch-texts", type=click.IntRange(1, MAX_TEXTS_PER_JOB), default=DEFAULT_BATCH_TEXTS)
@click.option("--max-in-flight", type=click.IntRange(1), default=DEFAULT_MAX_IN_FLIGHT, help="Jobs at once.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@click.pass_context
def embed(context: click.Context, /, **given: Any) -> None:
    """Embed the texts of IN into OUT.

    IN is JSONL, CSV, Parquet, Arrow or a text file (.gz too for the text formats), or - for lines on
    standard input; OUT is .parquet, .jsonl or .npy. It appears only when all of it is written.

    \b
    Exit status: 0 every text has its vector; 1 some failed, see OUT.errors.jsonl;
    2 wrong usage or files; 3 trouble with the queue or a worker; 130 interrupted.
    """
    arguments = _Arguments(**given)
    if arguments.embedded and context.get_parameter_source("redis_url") is ParameterSource.COMMANDLINE:
        raise click.UsageError("--embedded brings its own server; leave --redis-url away")
    with exit_status():
        summary, output = _embed(arguments, context.obj or _client)
    if not arguments.quiet:
        click.echo("\n".join(summary_lines(summary, output=output.path, errors=output.errors_path)))
    sys.exit(ExitStatus.TEXTS_FAILED if summary.failed else ExitStatus.OK)


def _embed(arguments: _Arguments, connect: Connect) -> tuple[Summary, Output]:
    options = EmbedOptions(
        input_type=arguments.input_type,
        truncate=arguments.truncate,
        dimensions=arguments.dimensions,
        embedding_type=arguments.embedding_type,
    )
    with ExitStack() as run:
        reader = run.enter_context(
            open_reader(
                arguments.source,
                arguments.format,
                text_column=arguments.text_column,
                id_column=arguments.id_column,
            )
        )
        _refuse_to_replace_input(arguments.source, arguments.output)
        output = run.enter_context(
            Output(arguments.output, arguments.output_format, id_type=reader.id_type, options=options)
        )
        url, check = run.enter_context(_queue(arguments))
        display = run.enter_context(ProgressDisplay(Console(stderr=True), quiet=arguments.quiet))
        work = partial(
            embed_file,
            reader=reader,
            output=output,
            options=options,
            batch_texts=arguments.batch_texts,
            max_in_flight=arguments.max_in_flight,
            on_progress=display.update,
        )
        return asyncio.run(_run(work, partial(connect, url, arguments.model), check, arguments.model)), output


async def _run(
    work: Callable[[Embedder], Coroutine[Any, Any, Summary]],
    connect: Callable[[], Connection],
    check: Callable[[], None],
    model: str,
) -> Summary:
    """Do the work unless `check` raises, which is asked now and then."""
    async with connect() as client:
        task = asyncio.create_task(work(client))
        lookout = asyncio.create_task(_look_for_workers(client, model))
        try:
            while not task.done():
                check()
                await asyncio.wait({task}, timeout=_CHECK_EVERY_S)
        finally:
            task.cancel()
            lookout.cancel()
            await asyncio.wait({task, lookout})
        return task.result()


async def _look_for_workers(client: Embedder, model: str) -> None:
    """Say it if nobody serves the queue: a worker may still be starting, or the model's name be wrong."""
    await asyncio.sleep(_ALONE_S)
    while True:
        with suppress(QueueError):  # whoever does the work tells
            if await client.num_workers() == 0:
                click.echo(
                    f"no worker serves {model!r} yet, so the texts wait; "
                    f"start one: EMBEDMILL_MODEL={model} worker run",
                    err=True,
                )
        await asyncio.sleep(_ALONE_AGAIN_S)


@contextmanager
def _queue(arguments: _Arguments) -> Iterator[tuple[str, Callable[[], None]]]:
    """The queue's address, and what raises once nobody serves it any longer."""
    if not arguments.embedded:
        yield arguments.redis_url, lambda: None
        return
    with (
        EmbeddedServer() as server,
        EmbeddedWorker(redis_url=server.url, model=arguments.model) as worker,
    ):

        def check() -> None:
            server.check()
            worker.check()

        yield server.url, check


def _client(redis_url: str, model: str) -> Connection:
    from producer.client import Client

    return Client(redis_url, model=model)


def _refuse_to_replace_input(source: str, target: Path) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise FileError(f"{target}: is the input as well; give the output another name")
