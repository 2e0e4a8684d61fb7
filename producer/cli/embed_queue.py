"""Work on a queue while somebody waits: an own server and worker on request, and a word if nobody serves."""

import asyncio
import shlex
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import click

from producer.bulk import BatchEmbedder
from producer.cli.embed_arguments import Arguments
from producer.cli.signals import until_interrupted
from producer.datasets import TextEmbedder
from producer.embedded.services import EmbeddedServer, EmbeddedWorker
from producer.errors import QueueError
from producer.transport.connect import end_tasks

_CHECK_EVERY_S = 0.5
_NO_WORKER_S, _NO_WORKER_AGAIN_S = 3.0, 60.0
_Result = TypeVar("_Result")


class QueueClient(BatchEmbedder, TextEmbedder, Protocol):
    """The part of a client that `producer embed` needs."""


class Connect(Protocol):
    """Makes a client."""

    def __call__(
        self, redis_url: str, *, model: str, prefix: str, run: str | None, wait_for_worker_s: float
    ) -> AbstractAsyncContextManager[QueueClient]: ...


def on_queue(
    work: Callable[[QueueClient], Coroutine[Any, Any, _Result]], arguments: Arguments, connect: Connect
) -> _Result:
    """Do the work with a client of the queue, an embedded one on request.

    Raises what the work raises, our errors, and Interrupted on a signal.
    """
    with _queue(arguments) as (url, check):
        client = partial(
            connect,
            url,
            model=arguments.model,
            prefix=arguments.prefix,
            run=arguments.run,
            wait_for_worker_s=arguments.wait_for_worker,
        )
        return asyncio.run(until_interrupted(_work(work, client, check, arguments)))


async def _work(
    work: Callable[[QueueClient], Coroutine[Any, Any, _Result]],
    connect: Callable[[], AbstractAsyncContextManager[QueueClient]],
    check: Callable[[], None],
    arguments: Arguments,
) -> _Result:
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
