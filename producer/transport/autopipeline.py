"""Pipelines commands of concurrent coroutines: those sent while one pipeline is in flight form the next."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

MAX_COMMANDS = 128
MAX_BYTES = 256 * 1024  # bounds how many bytes of others a small command waits for

Command = Sequence[str | bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Sent:
    """The commands of one `send`, packed, and the future of their replies."""

    packed: bytes
    num_commands: int
    replies: asyncio.Future[list[Any]]


class AutoPipeline:
    """Sends commands in pipelines through the connections of `redis`, never waiting to fill one.

    A pipeline costs client and server about as much as a single command, so a busy process saves most of
    both, and an idle one sends at once.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pending: list[_Sent] = []
        self._task: asyncio.Task[None] | None = None

    async def send(self, *commands: Command) -> list[Any]:
        """The replies in order; raises redis-py's error of the first command that failed."""
        return await self._enqueue(commands)

    def post(self, *commands: Command) -> None:
        """Send without waiting, before whatever is sent later; errors are ignored."""
        self._enqueue(commands).add_done_callback(_ignore_error)

    async def flush(self, *, timeout_s: float) -> None:
        """Wait until everything is sent, at most `timeout_s`."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=timeout_s)

    def _enqueue(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        # Encoded here, so that a command that cannot be encoded fails its sender alone.
        packed = _packed(commands)
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._pending.append(_Sent(packed, len(commands), replies))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain(), name="embedmill-pipeline")
        return replies

    async def _drain(self) -> None:
        while self._pending:
            batch = self._take_batch()
            try:
                await self._run(batch)
            except (RedisError, OSError) as error:
                for sent in batch:
                    if not sent.replies.done():
                        sent.replies.set_exception(error)
            finally:
                for sent in batch:
                    sent.replies.cancel()  # does nothing unless we were cancelled before the replies came

    def _take_batch(self) -> list[_Sent]:
        """The next commands within the bounds, at least one `send`; drops those whose senders gave up."""
        pending = [sent for sent in self._pending if not sent.replies.done()]
        count = num_commands = num_bytes = 0
        for sent in pending:
            num_commands += sent.num_commands
            num_bytes += len(sent.packed)
            if count and (num_commands > MAX_COMMANDS or num_bytes > MAX_BYTES):
                break
            count += 1
        self._pending = pending[count:]
        return pending[:count]

    async def _run(self, batch: Sequence[_Sent]) -> None:
        packed = [sent.packed for sent in batch]
        num_commands = sum(sent.num_commands for sent in batch)
        pool = self._redis.connection_pool
        connection = await pool.get_connection()
        try:
            found = await connection.retry.call_with_retry(
                lambda: _exchange(connection, packed, num_commands), lambda _: connection.disconnect()
            )
        finally:
            await pool.release(connection)
        for sent in batch:
            replies, found = found[: sent.num_commands], found[sent.num_commands :]
            if sent.replies.done():
                continue
            error = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if error is None:
                sent.replies.set_result(replies)
            else:
                sent.replies.set_exception(error)


async def _exchange(connection: AbstractConnection, packed: Sequence[bytes], num_commands: int) -> list[Any]:
    """The replies in order, with an error in place of one that the server refused.

    The connection's timeout bounds the time between two replies. redis-py starts a new one for every reply,
    and a task for every write, which costs as much as all the rest; here it is extended once part of it has
    passed.
    """
    loop = asyncio.get_running_loop()
    timeout_s, connection.socket_timeout = connection.socket_timeout, None
    replies: list[Any] = []
    try:
        async with asyncio.timeout(timeout_s) as timeout:
            extended_s = loop.time()
            await connection.send_packed_command(packed)
            while len(replies) < num_commands:
                replies.append(await _reply(connection))
                if timeout_s and loop.time() > extended_s + timeout_s / 8:
                    extended_s = loop.time()
                    timeout.reschedule(extended_s + timeout_s)
    except TimeoutError as error:
        raise RedisTimeoutError(f"no reply within {timeout_s} s") from error
    finally:
        connection.socket_timeout = timeout_s
    return replies


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _packed(commands: Sequence[Command]) -> bytes:
    """Encode the commands in RESP, several times as fast as redis-py's `pack_commands`."""
    pieces: list[bytes] = []
    for command in commands:
        pieces.append(b"*%d\r\n" % len(command))
        for part in command:
            raw = part.encode() if isinstance(part, str) else part
            pieces += (b"$%d\r\n" % len(raw), raw, b"\r\n")
    return b"".join(pieces)


def _ignore_error(replies: asyncio.Future[list[Any]]) -> None:
    """Mark the exception as retrieved, so that asyncio does not log it."""
    if not replies.cancelled():
        replies.exception()
