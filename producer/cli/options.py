"""Shared by the commands that work on a queue: the options that name it, and a client for it."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from producer.cli.exit_status import exit_status
from producer.client import Client
from producer.contract import DEFAULT_PREFIX
from producer.terminal import escaped
from producer.transport.connect import DEFAULT_URL

_Result = TypeVar("_Result")

redis_url_option = click.option(
    "--redis-url",
    default=DEFAULT_URL,
    envvar="EMBEDMILL_REDIS_URL",
    show_default=True,
    show_envvar=True,
    help="Address of Redis, a cluster or Sentinels.",
)
prefix_option = click.option(
    "--prefix",
    default=DEFAULT_PREFIX,
    envvar="EMBEDMILL_PREFIX",
    show_default=True,
    show_envvar=True,
    help="Prefix of all keys; workers must use the same.",
)


_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def duration_option(*names: str, **more: Any) -> Callable[[Any], Any]:
    """An option whose value is a number of seconds, given as `90`, `90s`, `10m`, `1.5h` or `2d`."""
    return click.option(*names, metavar="TIME", callback=_duration, **more)


def _duration(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    found = _DURATION.fullmatch(value)
    if found is None:
        raise click.BadParameter(f"{value!r:.60}; write a number and s, m, h or d, as in 10m")
    return float(found[1]) * _SECONDS[found[2]]


def max_option(name: str, help: str) -> Callable[[Any], Any]:
    """`--max`: how many rows a list shows, 100 unless told otherwise."""
    return click.option("--max", name, type=click.IntRange(1), default=100, show_default=True, help=help)


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def queue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name one queue: --model, --redis-url, --prefix."""
    model = click.option("--model", required=True, help="Model whose queue to use.")
    return model(redis_url_option(prefix_option(command)))


def with_client(
    use: Callable[[Client], Awaitable[_Result]], *, redis_url: str, model: str, prefix: str
) -> _Result:
    """Run `use` with a client of the queue; our errors end the process with their exit status."""

    async def run() -> _Result:
        async with Client(redis_url, model=model, prefix=prefix) as client:
            return await use(client)

    with exit_status():
        return asyncio.run(run())


async def each_of(
    jobs: Sequence[str],
    do: Callable[[str], Awaitable[bool]],
    *,
    done: str,
    absent: str,
    as_json: bool = False,
) -> bool:
    """Call `do` for every job and print a line for each, or JSON; True if all were found."""
    outcomes = {job: await do(job) for job in jobs}
    print_each(outcomes, done=done, absent=absent, as_json=as_json)
    return all(outcomes.values())


def print_each(outcomes: Mapping[str, bool], *, done: str, absent: str, as_json: bool) -> None:
    """A line for each job, or one JSON object with a list of those that were found and one of the others."""
    if as_json:
        found = [job for job, was_found in outcomes.items() if was_found]
        echo_json({done: found, "absent": [job for job in outcomes if job not in found]})
        return
    for job, was_found in outcomes.items():
        click.echo(f"{escaped(job)}: {done if was_found else absent}", err=not was_found)


def echo_json(value: object) -> None:
    """Print a value as JSON in ASCII, in which nothing acts on a terminal."""
    click.echo(json.dumps(value, indent=2))
