"""What the commands on a queue share: where it is, and how a client of it is used."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import click

from producer.cli.exit_status import exit_status
from producer.client import Client
from producer.contract import DEFAULT_PREFIX
from producer.transport.connect import DEFAULT_URL

_Result = TypeVar("_Result")

redis_url_option = click.option(
    "--redis-url", default=DEFAULT_URL, envvar="EMBEDMILL_REDIS_URL", show_envvar=True
)
prefix_option = click.option("--prefix", default=DEFAULT_PREFIX, envvar="EMBEDMILL_PREFIX", show_envvar=True)
json_option = click.option("--json", "as_json", is_flag=True, help="JSON instead of a table.")


def queue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that name one queue: --model, --redis-url, --prefix."""
    model = click.option("--model", required=True, help="The model whose queue is meant.")
    return model(redis_url_option(prefix_option(command)))


def with_client(
    use: Callable[[Client], Awaitable[_Result]], *, redis_url: str, model: str, prefix: str
) -> _Result:
    """Run `use` with a client of the queue; our errors end the process with their status."""

    async def run() -> _Result:
        async with Client(redis_url, model=model, prefix=prefix) as client:
            return await use(client)

    with exit_status():
        return asyncio.run(run())


async def each_of(
    jobs: tuple[str, ...], do: Callable[[str], Awaitable[bool]], *, done: str, absent: str
) -> bool:
    """Do it to every job and say how it went, line by line; True if all were there."""
    outcomes = [await do(job) for job in jobs]
    for job, was_there in zip(jobs, outcomes, strict=True):
        click.echo(f"{job}: {done if was_there else absent}", err=not was_there)
    return all(outcomes)
