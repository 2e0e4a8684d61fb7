"""A bad network: a proxy before a server, in a thread of its own, that delays, cuts or swallows."""

import asyncio
import ssl
import threading
from contextlib import suppress
from typing import Self


class Proxy:
    """A context manager; `delay_s` before every reply, `black_hole` takes all and passes on nothing.

    A connection that sends more than `max_packet` bytes at once is swallowed from then on. With `tls` it
    stands before a server without TLS as one with it.
    """

    def __init__(self, port: int, *, tls: ssl.SSLContext | None = None) -> None:
        self.delay_s = 0.0
        self.black_hole = False
        self.max_packet = 1 << 30
        self._target = port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """End every connection."""
        self._loop.call_soon_threadsafe(self._close_all)

    def forget(self) -> None:
        """Swallow all that comes by the connections there are, for good, as a router does that lost them."""
        self._forgotten |= self._writers

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)

    async def _end(self) -> None:
        self._server.close()
        self._close_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _close_all(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError):
                there, back = await asyncio.open_connection("127.0.0.1", self._target)
                await self._carry(reader, writer, there, back)
        finally:
            self._tasks.discard(task)

    async def _carry(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there: asyncio.StreamReader,
        back: asyncio.StreamWriter,
    ) -> None:
        self._writers |= {writer, back}
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(reader, back, delayed=False))
                both.create_task(self._pump(there, writer, delayed=True))
        except* OSError:
            pass
        finally:
            for one in (writer, back):
                self._writers.discard(one)
                one.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, delayed: bool) -> None:
        while data := await source.read(65536):
            if delayed and self.delay_s:
                await asyncio.sleep(self.delay_s)
            if len(data) > self.max_packet:
                self._forgotten |= {sink}
            # What was swallowed never comes, as if packets had been lost for good.
            if not self.black_hole and sink not in self._forgotten:
                sink.write(data)
                await sink.drain()
        raise ConnectionResetError
