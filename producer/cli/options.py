"""Shared by the commands that work on a queue: the options that name it, and a client for it."""

import asyncio
from collections.abc import Awaitable, Callable
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
    jobs: tuple[str, ...], do: Callable[[str], Awaitable[bool]], *, done: str, absent: str
) -> bool:
    """Call `do` for every job and print a line for each; True if all were found."""
    outcomes = [await do(job) for job in jobs]
    for job, was_found in zip(jobs, outcomes, strict=True):
        click.echo(f"{escaped(job)}: {done if was_found else absent}", err=not was_found)
    return all(outcomes)
