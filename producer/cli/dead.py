"""`producer dead`: lists, shows, requeues and drops dead letters, the jobs that were given up."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import click
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from producer.cli.exit_status import ExitStatus
from producer.cli.options import (
    each_of,
    echo_json,
    json_option,
    max_option,
    print_each,
    queue_options,
    with_client,
)
from producer.client import Client
from producer.contract import Request
from producer.queue.dead_letters import DeadLetter
from producer.terminal import escaped, format_duration, wide_console

_SHOWN_CHARS = 100
_JOBS = click.argument("jobs", metavar="[JOB...]", nargs=-1)
_EVERY = click.option("--all", "every", is_flag=True, help="Apply to all dead letters of the queue.")
_CODE = click.option("--code", help="Apply to the dead letters that failed with this code.")


@click.group("dead")
def dead_group() -> None:
    """Inspect, requeue or drop the jobs that were given up."""


@dead_group.command("list")
@max_option("max_dead_letters", "How many dead letters to show.")
@json_option
@queue_options
def list_command(max_dead_letters: int, as_json: bool, **queue: str) -> None:
    """List the newest dead letters, newest first."""
    letters = with_client(lambda client: client.dead_letters(max_dead_letters=max_dead_letters), **queue)
    if as_json:
        echo_json([asdict(letter) for letter in letters])
    elif letters:
        wide_console().print(_table(letters))
    else:
        click.echo("no dead letters")


@dead_group.command("show", no_args_is_help=True)
@click.argument("job")
@json_option
@queue_options
def show_command(job: str, as_json: bool, **queue: str) -> None:
    """Show one dead letter with its request."""
    letter, request = with_client(lambda client: client.dead_letter(job), **queue)
    fields = asdict(letter) | _request_fields(request)
    if as_json:
        echo_json(fields)
        return
    table = Table(show_header=False, box=None)
    texts = fields.pop("texts")
    for name, value in fields.items():
        table.add_row(name, Text(escaped(str(value))))
    for index, text in enumerate(texts):
        table.add_row(f"text {index}", Text("(refused)" if text is None else repr(text[:_SHOWN_CHARS])))
    wide_console().print(table)


@dead_group.command("requeue")
@_JOBS
@_EVERY
@_CODE
@json_option
@queue_options
def requeue_command(jobs: tuple[str, ...], **given: Any) -> None:
    """Enqueue dead letters again as new jobs, regardless of the queue's limits.

    \b
    Exit status: 0 all were requeued; 1 some are not dead letters, or none has the code;
    3 trouble with the queue.
    """
    _apply(jobs, Client.requeue, Client.requeue_all, "requeued", **given)


@dead_group.command("drop")
@_JOBS
@_EVERY
@_CODE
@json_option
@queue_options
def drop_command(jobs: tuple[str, ...], **given: Any) -> None:
    """Delete dead letters for good.

    \b
    Exit status: 0 all were dropped; 1 some are not dead letters, or none has the code;
    3 trouble with the queue.
    """
    _apply(jobs, Client.drop, Client.drop_all, "dropped", **given)


def _apply(
    jobs: tuple[str, ...],
    do: Callable[[Client, str], Awaitable[bool]],
    do_all: Callable[..., Awaitable[Sequence[str]]],
    done: str,
    *,
    every: bool,
    code: str | None,
    as_json: bool,
    **queue: str,
) -> None:
    if [bool(jobs), every, code is not None].count(True) != 1:
        raise click.UsageError("give either job ids, --all or --code")

    async def apply(client: Client) -> bool:
        if jobs:
            absent = "not a dead letter"
            return await each_of(jobs, partial(do, client), done=done, absent=absent, as_json=as_json)
        found = await do_all(client, code=code)
        print_each(dict.fromkeys(found, True), done=done, absent="", as_json=as_json)
        if not found and code is not None:
            click.echo(f"no dead letters with the code {escaped(code)}", err=True)
        return bool(found) or code is None

    if not with_client(apply, **queue):
        sys.exit(ExitStatus.NOT_FOUND)


def _table(letters: list[DeadLetter]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("job", no_wrap=True)
    for heading in ("code", "tries", "texts", "bytes", "age", "message"):
        table.add_column(heading)
    for one in letters:
        numbers = (str(one.tries), str(one.num_texts), str(one.num_bytes), format_duration(one.age_s))
        names = (Text(escaped(words, max_chars=_SHOWN_CHARS)) for words in (one.job, one.code))
        table.add_row(*names, *numbers, Text(escaped(one.message, max_chars=_SHOWN_CHARS)))
    return table


def _request_fields(request: Request | None) -> dict[str, Any]:
    if request is None:
        return {"texts": []}
    return {"model": request.model, **asdict(request.options), "texts": list(request.texts)}
