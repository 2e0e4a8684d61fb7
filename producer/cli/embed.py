"""`producer embed`: a file of texts in, a file of vectors out."""

import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from producer.bulk import DEFAULT_BATCH_TEXTS, DEFAULT_MAX_IN_FLIGHT, BatchEmbedder
from producer.cli.embed_run import Arguments, run_embed
from producer.cli.exit_status import ExitStatus, exit_status
from producer.cli.options import prefix_option, redis_url_option
from producer.cli.progress import summary_lines
from producer.contract import MAX_TEXTS_PER_JOB, EmbeddingType, InputType, Truncate, run_name
from producer.files import InputFormat, OutputFormat


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
@redis_url_option
@prefix_option
@click.option("--run", help="What `producer cancel --run` calls the jobs.  [default: a new name]")
@click.option("--embedded", is_flag=True, help="Start a server and a worker for this run only.")
@click.option("--restart", is_flag=True, help="Do again what an interrupted run of this command has done.")
@click.option("--batch-texts", type=click.IntRange(1, MAX_TEXTS_PER_JOB), default=DEFAULT_BATCH_TEXTS)
@click.option("--max-in-flight", type=click.IntRange(1), default=DEFAULT_MAX_IN_FLIGHT, help="Jobs at once.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@click.pass_context
def embed(context: click.Context, /, run: str | None, **given: Any) -> None:
    """Embed the texts of IN into OUT.

    IN is JSONL, CSV, Parquet, Arrow or a text file (.gz too for the text formats), or - for lines on
    standard input; OUT is .parquet, .jsonl or .npy. It appears only when all of it is written. A run that
    ends early takes its jobs off the queue and keeps its rows in OUT.part; the same command goes on there.

    \b
    Exit status: 0 every text has its vector; 1 some failed, see OUT.errors.jsonl;
    2 wrong usage or files; 3 trouble with the queue or a worker; 130 interrupted; 143 terminated.
    """
    with exit_status():
        arguments = Arguments(run=_run(context, run), **given)
        summary, output = run_embed(arguments, context.obj or _client)
    if not arguments.quiet:
        click.echo("\n".join(summary_lines(summary, output=output.path, errors=output.errors_path)))
    sys.exit(ExitStatus.TEXTS_FAILED if summary.failed else ExitStatus.OK)


def _run(context: click.Context, given: str | None) -> str | None:
    """The run's name, a new one tells when it began; None on a queue of one's own."""
    if context.params["embedded"]:
        named = (given is not None, "--run"), (_is_given(context, "redis_url"), "--redis-url")
        for is_given, option in named:
            if is_given:
                raise click.UsageError(f"--embedded brings its own server; leave {option} away")
        return None
    if given is None:
        given = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return run_name(given)


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def _client(
    redis_url: str, *, model: str, prefix: str, run: str | None
) -> AbstractAsyncContextManager[BatchEmbedder]:
    from producer.client import Client

    return Client(redis_url, model=model, prefix=prefix, run=run)
