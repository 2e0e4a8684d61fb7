"""`producer embed`: embeds a file of texts into a file of vectors."""

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
    """An option whose value is a member of the enum `kind`."""
    return click.option(
        name,
        type=click.Choice([member.value for member in kind]),
        callback=lambda _context, _parameter, value: None if value is None else kind(value),
        **more,
    )


@click.command("embed", no_args_is_help=True)
@click.argument("source", metavar="IN")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="File to write the vectors to.",
)
@click.option("--model", required=True, help="Model whose queue to send the texts to.")
@_member_option("--format", InputFormat, help="Format of IN.  [default: by its file extension]")
@_member_option("--output-format", OutputFormat, help="Format of OUT.  [default: by its file extension]")
@click.option("--text-column", default="text", show_default=True, help="Column with the texts.")
@click.option(
    "--id-column", help="Column with the ids.  [default: id or _id if there is one, else row numbers from 0]"
)
@_member_option(
    "--input-type",
    InputType,
    help="What the texts are: the model's prompt for it is put before each.  [default: the model's default "
    "prompt, if it has one]",
)
@click.option(
    "--prompt-name",
    metavar="NAME",
    help="Name of the model's prompt to put before each, in place of --input-type.",
)
@_member_option(
    "--truncate",
    Truncate,
    default=Truncate.NONE.value,
    show_default=True,
    help="Where to cut a text that is too long for the model; NONE lets it fail.",
)
@click.option("--dimensions", type=int, help="Shorten the vectors to this size, if the model allows it.")
@_member_option(
    "--embedding-type",
    EmbeddingType,
    default=EmbeddingType.FLOAT32.value,
    show_default=True,
    help="Element type of the vectors.",
)
@redis_url_option
@prefix_option
@click.option("--run", help="Name of the run, for `producer cancel --run`.  [default: a new name]")
@click.option("--embedded", is_flag=True, help="Start a server and a worker for this run only.")
@click.option("--restart", is_flag=True, help="Start over instead of resuming an interrupted run.")
@click.option(
    "--batch-texts",
    type=click.IntRange(1, MAX_TEXTS_PER_JOB),
    default=DEFAULT_BATCH_TEXTS,
    show_default=True,
    help="Texts per job.",
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    default=DEFAULT_MAX_IN_FLIGHT,
    show_default=True,
    help="Maximum number of jobs in flight.",
)
@click.option(
    "--wait-for-worker",
    type=click.FloatRange(0.0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait while no worker serves the model's queue, or is starting; inf is for ever.",
)
@click.option("--quiet", is_flag=True, help="Print no progress and no summary.")
@click.pass_context
def embed_command(context: click.Context, /, run: str | None, **given: Any) -> None:
    """Embed the texts of IN into OUT.

    IN is a file or URL of JSONL, JSON, CSV, TSV, Parquet, Arrow IPC, ORC or plain lines (text formats also
    compressed: .gz, .zst, .bz2, .xz; see docs/reference/inputs.md), or - to read lines
    from standard input; OUT is .parquet, .jsonl or .npy and appears only when it is complete. A run that
    ends early cancels its jobs and keeps its rows in OUT.part; the same command resumes it.

    \b
    Exit status: 0 every text has its vector; 1 some texts failed, see OUT.errors.jsonl;
    2 wrong usage or files; 3 trouble with the queue or a worker; 130 interrupted; 143 terminated.
    """
    with exit_status():
        arguments = Arguments(run=_run(context, run), **given)
        summary, output = run_embed(arguments, context.obj or _client)
    if not arguments.quiet:
        click.echo("\n".join(summary_lines(summary, output=output.path, errors=output.errors_path)))
    sys.exit(ExitStatus.TEXTS_FAILED if summary.failed else ExitStatus.OK)


def _run(context: click.Context, given: str | None) -> str | None:
    """The run's name, by default made from the time; None with --embedded, whose queue has no other run."""
    if context.params["embedded"]:
        conflicting = (given is not None, "--run"), (_is_given(context, "redis_url"), "--redis-url")
        for is_given, option in conflicting:
            if is_given:
                raise click.UsageError(f"--embedded starts its own server; omit {option}")
        return None
    if given is None:
        given = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return run_name(given)


def _is_given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def _client(
    redis_url: str, *, model: str, prefix: str, run: str | None, wait_for_worker_s: float
) -> AbstractAsyncContextManager[BatchEmbedder]:
    from producer.client import Client

    return Client(redis_url, model=model, prefix=prefix, run=run, wait_for_worker_s=wait_for_worker_s)
