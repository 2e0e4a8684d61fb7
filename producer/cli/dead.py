"""`producer dead`: jobs that were given up, looked at and dealt with."""

import json
import sys
from dataclasses import asdict
from typing import Any

import click
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from producer.cli.exit_status import ExitStatus
from producer.cli.options import each_of, json_option, queue_options, with_client
from producer.client import Client
from producer.contract import Request
from producer.queue.dead_letters import DeadLetter
from producer.terminal import spoken, wide_console

_SHOWN_CHARS = 100
_ALL = 100_000  # more than are kept
_jobs = click.argument("jobs", metavar="[JOB...]", nargs=-1)
_all = click.option("--all", "every", is_flag=True, help="Every dead letter of the queue.")


@click.group()
def dead() -> None:
    """Look at jobs that were given up, try them again, or forget them."""


@dead.command("list")
@click.option("--max", "max_letters", type=click.IntRange(1), default=100, show_default=True)
@json_option
@queue_options
def list_letters(max_letters: int, as_json: bool, **queue: str) -> None:
    """The newest dead letters, newest first."""
    letters = with_client(lambda client: client.dead_letters(max_letters=max_letters), **queue)
    if as_json:
        click.echo(json.dumps([asdict(letter) for letter in letters], indent=2))
    elif letters:
        wide_console().print(_table(letters))
    else:
        click.echo("no dead letters")


@dead.command(no_args_is_help=True)
@click.argument("job")
@json_option
@queue_options
def show(job: str, as_json: bool, **queue: str) -> None:
    """One dead letter with its request."""
    letter, request = with_client(lambda client: client.dead_letter(job), **queue)
    fields = asdict(letter) | _request_fields(request)
    if as_json:
        click.echo(json.dumps(fields, indent=2))
        return
    table = Table(show_header=False, box=None)
    texts = fields.pop("texts")
    for name, value in fields.items():
        table.add_row(name, Text(str(value)))
    for index, text in enumerate(texts):
        table.add_row(f"text {index}", Text("(refused)" if text is None else repr(text[:_SHOWN_CHARS])))
    wide_console().print(table)


@dead.command()
@_jobs
@_all
@queue_options
def requeue(jobs: tuple[str, ...], every: bool, **queue: str) -> None:
    """Put jobs on their queue again as if new, whatever its limits.

    Exit status: 0 all were there; 1 some were not; 3 trouble with the queue.
    """
    _deal_with(jobs, every, Client.requeue, "requeued", queue)


@dead.command()
@_jobs
@_all
@queue_options
def drop(jobs: tuple[str, ...], every: bool, **queue: str) -> None:
    """Forget jobs for good.

    Exit status: 0 all were there; 1 some were not; 3 trouble with the queue.
    """
    _deal_with(jobs, every, Client.drop, "dropped", queue)


def _deal_with(jobs: tuple[str, ...], every: bool, deed: Any, done: str, queue: dict[str, str]) -> None:
    if bool(jobs) == every:
        raise click.UsageError("name jobs, or give --all")

    async def deal(client: Client) -> bool:
        names = jobs
        if every:
            names = tuple(letter.job for letter in await client.dead_letters(max_letters=_ALL))
        return await each_of(names, lambda job: deed(client, job), done=done, absent="no dead letter")

    if not with_client(deal, **queue):
        sys.exit(ExitStatus.NOT_THERE)


def _table(letters: list[DeadLetter]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("job", no_wrap=True)
    for heading in ("code", "tries", "texts", "bytes", "age", "message"):
        table.add_column(heading)
    for one in letters:
        numbers = (str(one.tries), str(one.num_texts), str(one.num_bytes), spoken(one.age_s))
        table.add_row(Text(one.job), Text(one.code), *numbers, Text(one.message[:_SHOWN_CHARS]))
    return table


def _request_fields(request: Request | None) -> dict[str, Any]:
    if request is None:
        return {"texts": []}
    return {"model": request.model, **asdict(request.options), "texts": list(request.texts)}
