"""A server seen through connections that break at the worst moment: after a command, before its reply."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from producer.transport.connect import end_tasks


@asynccontextmanager
async def cut_once(url: str, command: bytes, place: Path) -> AsyncIterator[str]:
    """The address of a way to the unix socket at `url`, cut at the first reply to `command`."""
    target, left = unquote(urlsplit(url).path), [command]
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(target)
        cut = asyncio.Event()

        async def asks() -> None:
            while data := await reader.read(65536):
                if left and b"\r\n%s\r\n" % left[0] in data:
                    left.clear()
                    cut.set()
                server_writer.write(data)

        async def answers() -> None:
            while data := await server_reader.read(65536):
                if cut.is_set():
                    break
                writer.write(data)

        pumps = [asyncio.create_task(asks()), asyncio.create_task(answers())]
        tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        await end_tasks(*pumps)
        writer.close()
        server_writer.close()

    async with await asyncio.start_unix_server(connected, place / "way.sock"):
        yield f"unix://{place / 'way.sock'}"
        assert not left, f"{command!r} was never sent"
        await end_tasks(*tasks)
