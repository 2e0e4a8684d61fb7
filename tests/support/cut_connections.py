"""A server seen through connections that break at the worst moment: before a command, or before its reply."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import hiredis

from producer.queue import scripts
from producer.queue.scripts import Script
from producer.transport.connect import end_tasks


class Way:
    """A way to the unix socket at `url`, an asynchronous context manager; `seen` are the names of commands.

    The first command that is called `cut` breaks its connection: once the server has `executed` it, before
    the reply, or before it arrives there. A script's name is that of its file: "EVAL claim".
    """

    def __init__(self, url: str, place: Path, *, cut: str | None = None, executed: bool = True) -> None:
        self._target = unquote(urlsplit(url).path)
        self._place = place
        self._cut = cut
        self._executed = executed
        self._tasks: set[asyncio.Task[None]] = set()
        self.seen: dict[str, None] = {}
        self.has_cut = False
        self.url = f"unix://{place}"

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_unix_server(self._connected, self._place)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        await end_tasks(*self._tasks)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(self._target)
        cut = asyncio.Event()
        pumps = [
            asyncio.create_task(self._asks(reader, back, cut)),
            asyncio.create_task(_answers(there, writer, cut)),
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(*pumps)
        writer.close()
        back.close()

    async def _asks(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, cut: asyncio.Event
    ) -> None:
        commands = hiredis.Reader()
        while data := await source.read(1 << 16):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                name = _name(command)
                self.seen[name] = None
                if not self.has_cut and self._cut in (name, name.partition(" ")[0]):
                    self.has_cut = True
                    if not self._executed:
                        return
                    cut.set()
                sink.write(_packed(command))


async def _answers(source: asyncio.StreamReader, sink: asyncio.StreamWriter, cut: asyncio.Event) -> None:
    while data := await source.read(1 << 16):
        if cut.is_set():
            return
        sink.write(data)


def _packed(command: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in command)


def _name(command: list[bytes]) -> str:
    name = command[0].decode().upper()
    if name != "EVAL":
        return name
    every: list[Any] = [one for one in vars(scripts).values() if isinstance(one, Script)]
    return next(f"EVAL {one.name}" for one in every if one.source.encode() == command[1])


@asynccontextmanager
async def cut_once(url: str, command: bytes, place: Path) -> AsyncIterator[str]:
    """The address of a way to the unix socket at `url`, cut at the first reply to `command`."""
    async with Way(url, place / "way.sock", cut=command.decode()) as way:
        yield way.url
    assert way.has_cut, f"{command!r} was never sent"
