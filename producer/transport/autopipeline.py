"""Commands of many coroutines in one pipeline: what is asked while one is on its way goes with the next."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

MAX_COMMANDS = 128
MAX_BYTES = 256 * 1024  # nobody waits for more of other people's bytes than that

Command = Sequence[str | bytes]


@dataclass(frozen=True, slots=True, eq=False)
class _Letter:
    packed: bytes
    num_commands: int
    replies: asyncio.Future[list[Any]]


class AutoPipeline:
    """Sends commands through one connection after the other of `redis`, without waiting to fill up.

    A pipeline costs a client and its server about as much as a command, so that a busy process saves most of
    both; an idle one sends at once.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._waiting: list[_Letter] = []
        self._task: asyncio.Task[None] | None = None

    async def send(self, *commands: Command) -> list[Any]:
        """The replies, in order; raises redis-py's error of the first command that failed."""
        return await self._put(commands)

    def post(self, *commands: Command) -> None:
        """Send as well, before whatever is sent later; nobody waits for it, and an error is nobody's."""
        self._put(commands).add_done_callback(_look_away)

    async def flush(self, *, timeout_s: float) -> None:
        """Wait until everything is sent, but no longer than that."""
        if self._task is not None and not self._task.done():
            await asyncio.wait([self._task], timeout=timeout_s)

    def _put(self, commands: Sequence[Command]) -> asyncio.Future[list[Any]]:
        # Encoded here, so that what cannot be fails its sender and not the whole pipeline.
        packed = _packed(commands)
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Letter(packed, len(commands), replies))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._empty(), name="embedmill-outbox")
        return replies

    async def _empty(self) -> None:
        while self._waiting:
            letters = self._take()
            try:
                await self._deliver(letters)
            except (RedisError, OSError) as error:
                for letter in letters:
                    if not letter.replies.done():
                        letter.replies.set_exception(error)
            finally:
                for letter in letters:
                    letter.replies.cancel()  # of those that nobody answered, since we were cancelled

    def _take(self) -> list[_Letter]:
        """The next letters within the bounds, at least one; those nobody waits for are dropped."""
        waiting = [letter for letter in self._waiting if not letter.replies.done()]
        count = num_commands = num_bytes = 0
        for letter in waiting:
            num_commands += letter.num_commands
            num_bytes += len(letter.packed)
            if count and (num_commands > MAX_COMMANDS or num_bytes > MAX_BYTES):
                break
            count += 1
        self._waiting = waiting[count:]
        return waiting[:count]

    async def _deliver(self, letters: Sequence[_Letter]) -> None:
        packed = [letter.packed for letter in letters]
        num_commands = sum(letter.num_commands for letter in letters)
        pool = self._redis.connection_pool
        connection = await pool.get_connection()
        try:
            found = await connection.retry.call_with_retry(
                lambda: _exchange(connection, packed, num_commands), lambda _: connection.disconnect()
            )
        finally:
            await pool.release(connection)
        for letter in letters:
            replies, found = found[: letter.num_commands], found[letter.num_commands :]
            if letter.replies.done():
                continue
            error = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if error is None:
                letter.replies.set_result(replies)
            else:
                letter.replies.set_exception(error)


async def _exchange(connection: AbstractConnection, packed: Sequence[bytes], num_commands: int) -> list[Any]:
    """The replies in order, an error in place of one that the server refused.

    The connection's limit is how long nothing may come. redis-py sets it anew for every reply, and sends in a
    task of its own for its sake, which costs as much as all the rest; here it is set when some of it is gone.
    """
    loop = asyncio.get_running_loop()
    limit_s, connection.socket_timeout = connection.socket_timeout, None
    replies: list[Any] = []
    try:
        async with asyncio.timeout(limit_s) as silence:
            set_s = loop.time()
            await connection.send_packed_command(packed)
            while len(replies) < num_commands:
                replies.append(await _reply(connection))
                if limit_s and loop.time() > set_s + limit_s / 8:
                    set_s = loop.time()
                    silence.reschedule(set_s + limit_s)
    except TimeoutError as error:
        raise RedisTimeoutError(f"no answer within {limit_s} s") from error
    finally:
        connection.socket_timeout = limit_s
    return replies


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _packed(commands: Sequence[Command]) -> bytes:
    """The commands as Redis reads them; redis-py takes several times as long for it."""
    pieces: list[bytes] = []
    for command in commands:
        pieces.append(b"*%d\r\n" % len(command))
        for part in command:
            raw = part.encode() if isinstance(part, str) else part
            pieces += (b"$%d\r\n" % len(raw), raw, b"\r\n")
    return b"".join(pieces)


def _look_away(replies: asyncio.Future[list[Any]]) -> None:
    """Or asyncio would complain of an error that nobody has looked at."""
    if not replies.cancelled():
        replies.exception()
