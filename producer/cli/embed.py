"""`producer embed`: embeds a file of texts into a file of vectors."""

import secrets
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from enum import StrEnum
from typing import Any

import click
from click.core import ParameterSource

from producer.bulk import DEFAULT_BATCH_TEXTS, DEFAULT_MAX_IN_FLIGHT
from producer.cli.embed_arguments import Arguments
from producer.cli.embed_dataset import run_embed_dataset
from producer.cli.embed_dry_run import run_dry
from producer.cli.embed_queue import Connect, QueueClient
from producer.cli.embed_run import run_embed
from producer.cli.exit_status import ExitStatus, exit_status, print_lines
from producer.cli.options import prefix_option, redis_url_option
from producer.cli.summary import dataset_lines, summary_lines, up_to_date_line
from producer.contract import MAX_TEXTS_PER_JOB, EmbeddingType, InputType, Truncate, run_name
from producer.datasets import OnDuplicate, parse_shard
from producer.errors import FileError
from producer.files import InputFormat, OutputFormat, Source, expand


def _member_option(name: str, kind: type[StrEnum], **more: Any) -> Callable[[Any], Any]:
    """An option whose value is a member of the enum `kind`."""
    return click.option(
        name,
        type=click.Choice([member.value for member in kind]),
        callback=lambda _context, _parameter, value: None if value is None else kind(value),
        **more,
    )


@click.command("embed", no_args_is_help=True)
@click.argument("inputs", metavar="IN...", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    required=True,
    metavar="OUT",
    help="File to write the vectors to, or directory or address of one for a file per input.",
)
@click.option("--model", required=True, help="Model whose queue to send the texts to.")
@_member_option("--format", InputFormat, help="Format of IN.  [default: by its file extension]")
@_member_option(
    "--output-format",
    OutputFormat,
    help="Format of OUT.  [default: by its file extension; parquet in a directory]",
)
@click.option("--text-column", default="text", show_default=True, help="Column with the texts.")
@click.option("--template", metavar="TEXT", help="Text made of several columns, as in '{title}\\n{body}'.")
@click.option(
    "--id-column", help="Column with the ids.  [default: id or _id if there is one, else row numbers from 0]"
)
@click.option(
    "--keep-columns",
    default="none",
    show_default=True,
    metavar="all|none|A,B",
    help="Columns of IN to keep beside the vectors.",
)
@click.option("--delimiter", help="What separates the fields of a CSV file.  [default: found out]")
@click.option("--quote", help="What surrounds fields of a CSV file.  [default: found out]")
@click.option("--encoding", help="Encoding of a text file.  [default: found out]")
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
@click.option("--overwrite", is_flag=True, help="Replace an output that is there already.")
@click.option(
    "--only-new",
    is_flag=True,
    help="Embed the new and changed rows of inputs that changed, and keep the other vectors.",
)
@click.option(
    "--retry-failed", is_flag=True, help="Embed the rows again that failed, and keep the other vectors."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Say what there is to do and how long it takes, and do nothing; a few texts are embedded for it.",
)
@click.option("--rows-per-file", type=click.IntRange(1), help="Write files of so many rows into OUT.")
@click.option(
    "--shard",
    metavar="N/COUNT",
    help="Embed one of several shares of the inputs, each by a producer of its own.",
)
@_member_option(
    "--on-duplicate",
    OnDuplicate,
    default=OnDuplicate.ALL.value,
    show_default=True,
    help="What to do with a row whose id an earlier row has.",
)
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
def embed_command(context: click.Context, /, run: str | None, shard: str | None, **given: Any) -> None:
    """Embed the texts of IN into OUT.

    IN is one or more files, directories, globs or URLs of JSONL, JSON, CSV, TSV, Parquet, Arrow IPC, ORC or
    plain lines (see docs/reference/inputs.md), or - to read lines from standard input. The vectors of one
    file go into the file OUT, which appears only when it is complete; those of several into the directory
    OUT, a file each. Whatever ends a run early, the same command resumes it; once all is done it says so.

    \b
    Exit status: 0 every text has its vector; 1 some texts failed, see OUT.errors.jsonl or OUT/_errors;
    2 wrong usage or files; 3 trouble with the queue or a worker; 4 a fault of the program;
    130 interrupted; 143 terminated.
    """
    with exit_status():
        share = None if shard is None else parse_shard(shard)
        arguments = Arguments(run=_run(context, run), shard=share, **given)
        sources = expand(arguments.inputs)
        connect = context.obj or _client
        if arguments.dry_run:
            lines, status = run_dry(arguments, sources, connect)
        elif arguments.writes_dataset(sources):
            lines, status = _embed_dataset(arguments, sources, connect)
        else:
            lines, status = _embed_file(arguments, sources[0], connect)
        if not arguments.quiet:
            print_lines(lines)
    sys.exit(status)


def _embed_file(arguments: Arguments, source: Source, connect: Connect) -> tuple[list[str], ExitStatus]:
    run = run_embed(arguments, source, connect)
    if run is None:
        return [f"up to date: {arguments.output} has all rows"], ExitStatus.OK
    summary, output = run
    lines = summary_lines(summary, output=output.path, errors=output.errors_path)
    return lines, ExitStatus.TEXTS_FAILED if summary.failed else ExitStatus.OK


def _embed_dataset(
    arguments: Arguments, sources: list[Source], connect: Connect
) -> tuple[list[str], ExitStatus]:
    dataset, result = run_embed_dataset(arguments, sources, connect)
    if result is None:
        return [up_to_date_line(dataset)], ExitStatus.OK
    if result.unreadable:
        raise FileError(
            f"{len(result.unreadable):,} of {len(dataset.tasks):,} inputs could not be read, the first: "
            f"{result.unreadable[0]}; the others are done, and the same command tries again"
        )
    status = ExitStatus.TEXTS_FAILED if result.summary.failed else ExitStatus.OK
    return dataset_lines(dataset, result), status


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
) -> AbstractAsyncContextManager[QueueClient]:
    from producer.client import Client

    return Client(redis_url, model=model, prefix=prefix, run=run, wait_for_worker_s=wait_for_worker_s)
