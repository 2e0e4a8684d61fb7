"""`worker top`: shows queues and workers live in a terminal, from what Redis knows."""

import asyncio
import json
import os
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click
from rich.console import RenderableType
from rich.live import Live

from producer.errors import EmbedmillError
from producer.queue.status import QueueStatus, read_status
from producer.terminal import wide_console
from producer.transport.connect import connect, end_tasks, redis_errors
from producer.transport.retry import OutageBudget
from producer.transport.url import redacted
from worker.cli.entry import settings_from
from worker.cli.rates import Rates
from worker.cli.top_view import queues_json, screen
from worker.settings import Settings

_ONCE_S = 2.0  # between the two reads that a rate needs; workers publish their records more often


@click.command("top")
@click.option("--redis-url", help="Redis server to read (EMBEDMILL_REDIS_URL).")
@click.option("--prefix", help="Prefix of the queues' keys (EMBEDMILL_PREFIX).")
@click.option("--once", is_flag=True, help="Print once and exit; the default when stdout is not a TTY.")
@click.option("--json", "as_json", is_flag=True, help="Print once as JSON and exit.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    help="Seconds between two reads.",
)
def top_command(once: bool, as_json: bool, interval_s: float, **options: Any) -> None:
    """Show queues and workers live; press q to quit.

    Reads Redis alone, so it works wherever Redis is reachable.
    """
    run_top(settings_from(options), once=once, as_json=as_json, interval_s=interval_s)


def run_top(settings: Settings, *, once: bool, as_json: bool, interval_s: float) -> None:
    """Show queues and workers: live on a terminal until `q` or a signal, otherwise once.

    Raises QueueError when shown once; live, an error is shown until Redis answers again.
    """
    top = Top(settings.redis_url, settings.prefix)
    if as_json or once or not sys.stdout.isatty():
        asyncio.run(_once(top))
        if as_json:
            click.echo(json.dumps(top.json(), indent=2))
        else:
            console = wide_console()
            console.print(top.screen(expand=console.is_terminal))
    else:
        asyncio.run(_live(top, interval_s))


class Top:
    """The queues under one prefix as last read, with their rates."""

    def __init__(self, redis_url: str, prefix: str) -> None:
        self.redis = connect(redis_url, timeout_s=5.0, outage_budget=OutageBudget(0))
        self._redis_url = redis_url
        self._prefix = prefix
        self._rates = Rates()
        self._queues: tuple[QueueStatus, ...] = ()
        self._error = ""

    async def read(self) -> None:
        """Read all queues. Raises QueueError, or PayloadError for a foreign record."""
        with redis_errors(self._redis_url):
            self._queues = await read_status(self.redis, self._prefix)
        self._rates.update(time.monotonic(), self._queues)
        self._error = ""

    async def read_or_show_error(self) -> None:
        """Read all queues; an error is shown above what was read last."""
        try:
            await self.read()
        except EmbedmillError as error:
            self._error = str(error)

    def screen(self, *, expand: bool = True) -> RenderableType:
        """The screen to print, as wide as the terminal if `expand`."""
        title = f"{self._prefix} at {redacted(self._redis_url)}, {time.strftime('%H:%M:%S')}"
        return screen(self._queues, self._rates, title=title, error=self._error, expand=expand)

    def json(self) -> list[dict[str, object]]:
        """The same as JSON values."""
        return queues_json(self._queues, self._rates)


async def _once(top: Top) -> None:
    async with top.redis:
        await top.read()
        await asyncio.sleep(_ONCE_S)
        await top.read()


async def _live(top: Top, interval_s: float) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)

    async def refresh(live: Live) -> None:
        while True:
            await top.read_or_show_error()
            live.update(top.screen(), refresh=True)
            await asyncio.sleep(interval_s)

    def on_key(key: str) -> None:
        if key in ("q", "Q", ""):
            stop.set()

    with _keys(on_key), Live(screen=True, auto_refresh=False) as live:
        async with top.redis:
            task = asyncio.create_task(refresh(live))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
            await end_tasks(stopped, task)
    if not task.cancelled():
        task.result()


@contextmanager
def _keys(on_key: Callable[[str], None]) -> Iterator[None]:
    """Call `on_key` with each key that is pressed, `""` at the end of input; never if stdin is not a TTY."""
    if not sys.stdin.isatty():
        yield
        return
    loop, terminal = asyncio.get_running_loop(), sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    tty.setcbreak(terminal)

    def read() -> None:
        try:
            on_key(os.read(terminal, 1).decode(errors="replace"))
        except OSError:  # the terminal has gone
            on_key("")

    loop.add_reader(terminal, read)
    try:
        yield
    finally:
        loop.remove_reader(terminal)
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
