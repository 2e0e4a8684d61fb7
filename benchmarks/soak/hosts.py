"""What the chaos test runs and breaks: a server, parents of workers, and relays that lose connections."""

import asyncio
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from producer.transport.connect import end_tasks

ROOT = Path(__file__).parents[2]  # the directory in which workers are started
_END_S = 120.0


class Server:
    """A server with an append-only file that can be killed and restarted at the same address."""

    def __init__(self, program: str, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self.socket = directory / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._directory),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
        }
        command = [self._program, *(part for name, value in options.items() for part in (f"--{name}", value))]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()


class Host:
    """The parent of one worker, which can be killed and replaced; an asynchronous context manager.

    At the end the last parent is asked to end. AssertionError with its log if it fails, or if a worker of a
    killed parent has outlived it.
    """

    def __init__(self, command: Sequence[str], log: Path, settings: Mapping[str, str]) -> None:
        self._command = command
        self._log = log
        self._settings = {f"EMBEDMILL_{name}": value for name, value in settings.items()}
        self._orphans: list[psutil.Process] = []

    async def __aenter__(self) -> Self:
        self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._end)  # relays in this loop go on meanwhile

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker of the current parent, if it has one now."""
        return list(psutil.Process(self.pid).children())

    def replace_parent(self) -> None:
        """Kill the parent, and start another one: nobody is left to hand its worker's jobs back."""
        self._orphans += self.workers
        self._process.kill()
        self._process.wait()
        self._start()

    def _start(self) -> None:
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env={**os.environ, **self._settings}, stderr=output
            )

    def _end(self) -> None:
        self._process.terminate()
        status = self._process.wait(_END_S)
        _, left = psutil.wait_procs(self._orphans, timeout=_END_S)
        for orphan in left:
            orphan.kill()
        assert status == 0, self._log.read_text()[-4000:]
        assert not left, f"workers that outlived their parents: {left}"


class Relay:
    """A way to a unix socket by TCP, in the event loop of its user; an asynchronous context manager."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._tasks: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.StreamWriter] = set()
        self._black_holes: set[asyncio.StreamWriter] = set()
        self.url = ""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"redis://127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        while self._tasks:
            for writer in self._connections:
                writer.transport.abort()
            await asyncio.wait(self._tasks)

    def swallow(self) -> bool:
        """Pass on nothing more by the connections there are, which stay open; False if there are none.

        As a router that lost its table does: neither end is told.
        """
        self._black_holes |= self._connections
        return bool(self._connections)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._connections.add(writer)
        try:
            with suppress(OSError):
                await self._carry(reader, writer)
        finally:
            writer.transport.abort()
            self._connections.discard(writer)
            self._black_holes.discard(writer)
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Both ways until either end closes the connection."""
        there, back = await asyncio.open_unix_connection(self._socket)

        async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            while data := await source.read(1 << 16):
                if writer not in self._black_holes:
                    sink.write(data)
                    await sink.drain()

        pumps = [asyncio.create_task(pump(reader, back)), asyncio.create_task(pump(there, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end_tasks(*pumps)
            back.transport.abort()
