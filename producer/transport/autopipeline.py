"""Pipelines commands of concurrent coroutines: those sent while one pipeline is in flight form the next."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from producer.transport.retry import TRANSIENT_ERRORS, OutageClock, is_protocol_error, single_try

MAX_COMMANDS = 128
MAX_BYTES = 256 * 1024  # bounds how many bytes of others a small command waits for
_SLOW_S = 1.0  # then those that wait for a pipeline to come back go with another
_MAX_LANES = 4

Command = Sequence[str | bytes]


@dataclass(slots=True, eq=False)
class _Sent:
    """The commands of one `send`, packed, the future of their replies, and how long they have failed."""

    packed: bytes
    num_commands: int
    replies: asyncio.Future[list[Any]]
    clock: OutageClock
    once: bool

    def fail(self, error: Exception) -> None:
        """Tell the sender, if it still waits."""
        if not self.replies.done():
            self.replies.set_exception(error)


class _NotSent(Exception):
    """There is no connection, so that the commands cannot be at fault; `cause` is redis-py's error."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _Refused(Exception):
    """The server ends the connection because of the `command` of that index: it is too large."""

    def __init__(self, command: int, cause: ResponseError) -> None:
        super().__init__(str(cause))
        self.command = command
        self.cause = cause


class AutoPipeline:
    """Sends commands in pipelines through the connections of `redis`, never waiting to fill one.

    A pipeline costs client and server about as much as a single command, so a busy process saves most of
    both, and an idle one sends at once. When a pipeline is lost on its way, one of its commands may be the
    cause: too large for the server, or for the path to it. Each is then sent alone, by turns, until it passes
    or has been failing for longer than the outage budget, while new commands go on in pipelines; a pipeline
    that is slow to come back does not hold them up either.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._pending: list[_Sent] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._num_lanes = 0
        self._turn = asyncio.Lock()  # of those that are sent alone

    async def send(self, *commands: Command) -> list[Any]:
        """The replies in order; raises redis-py's error of the first command that failed."""
        return await self._enqueue(commands)

    async def send_once(self, *commands: Command) -> list[Any]:
        """As `send`, but an error is raised at once if the replies are lost: Redis may have done it."""
        return await self._enqueue(commands, once=True)

    def post(self, *commands: Command, once: bool = False) -> None:
        """Send without waiting, before whatever is sent later; errors are ignored."""
        self._enqueue(commands, once=once).add_done_callback(_ignore_error)

    async def flush(self, *, timeout_s: float) -> None:
        """Wait until everything is sent, at most `timeout_s`."""
        if self.is_busy:
            await asyncio.wait(self._tasks, timeout=timeout_s)

    @property
    def is_busy(self) -> bool:
        """True while anything is not answered yet."""
        return any(not task.done() for task in self._tasks)

    def _enqueue(self, commands: Sequence[Command], *, once: bool = False) -> asyncio.Future[list[Any]]:
        # Encoded here, so that a command that cannot be encoded fails its sender alone.
        packed = _packed(commands)
        replies: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        pool: Any = self._redis.connection_pool  # ours
        self._pending.append(_Sent(packed, len(commands), replies, OutageClock(pool.outage_budget), once))
        if self._num_lanes == 0:
            self._open_lane()
        return replies

    def _open_lane(self) -> None:
        if self._pending and self._num_lanes < _MAX_LANES:
            self._num_lanes += 1
            self._start(self._drain())

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="embedmill-pipeline")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _drain(self) -> None:
        try:
            await self._drain_pending()
        finally:
            self._num_lanes -= 1

    async def _drain_pending(self) -> None:
        loop = asyncio.get_running_loop()
        while batch := self._take_batch():
            overtaking = loop.call_later(_SLOW_S, self._open_lane)
            try:
                await self._run(batch)
            except _NotSent as error:
                await self._wait_for_connection(batch, error.cause)
            except TRANSIENT_ERRORS as error:
                for sent in batch:
                    if sent.once:
                        sent.fail(error)
                    else:
                        self._start(self._send_alone(sent, error))
            except Exception as error:
                for sent in batch:
                    sent.fail(error)
            except BaseException:
                for sent in batch:
                    sent.replies.cancel()
                raise
            finally:
                overtaking.cancel()

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

    async def _wait_for_connection(self, batch: list[_Sent], error: Exception) -> None:
        """Put the batch back, after a pause; fails those that have waited for too long."""
        self._pending = [*batch, *self._pending]
        pause_s = 0.0
        for sent in self._pending:
            try:
                pause_s = max(pause_s, sent.clock.pause_s(error))
            except TRANSIENT_ERRORS:
                sent.fail(error)
        await asyncio.sleep(pause_s)

    async def _send_alone(self, sent: _Sent, error: Exception) -> None:
        """Send it by itself until it passes, behind others that wait for their turn."""
        last = error
        try:
            while not sent.replies.done():
                await asyncio.sleep(sent.clock.pause_s(last))
                try:
                    async with asyncio.timeout(max(0.0, sent.clock.left_s)), self._turn:
                        await self._run([sent])
                except _NotSent as failure:
                    last = failure.cause
                except TRANSIENT_ERRORS as failure:  # TimeoutError is one, without words
                    last = failure if str(failure) else last
        except Exception as failure:
            sent.fail(failure)
        finally:
            sent.replies.cancel()  # does nothing unless we were cancelled before the replies came

    async def _run(self, batch: Sequence[_Sent]) -> None:
        """One try. Raises _NotSent before anything was sent."""
        packed = [sent.packed for sent in batch]
        num_commands = sum(sent.num_commands for sent in batch)
        pool: Any = self._redis.connection_pool  # ours
        with single_try():
            try:
                connection = await pool.get_connection()
            except TRANSIENT_ERRORS as error:
                raise _NotSent(error) from error
            try:
                found = await _exchange(connection, packed, num_commands)
            except _Refused as refused:
                _owner(batch, refused.command).fail(refused.cause)
                await connection.disconnect(nowait=True)
                raise ConnectionError(str(refused)) from refused
            except BaseException as error:
                await connection.disconnect(nowait=True)  # replies to come would be taken for others'
                if isinstance(error, Exception):
                    pool.check_open(error)
                raise
            finally:
                await pool.release(connection)
        for sent in batch:
            replies, found = found[: sent.num_commands], found[sent.num_commands :]
            if sent.replies.done():
                continue
            refusal = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if refusal is None:
                sent.replies.set_result(replies)
            else:
                sent.replies.set_exception(refusal)


def _owner(batch: Sequence[_Sent], command: int) -> _Sent:
    """Whose command this is."""
    ends = accumulate(sent.num_commands for sent in batch)
    return next(sent for sent, end in zip(batch, ends, strict=True) if command < end)


async def _exchange(connection: AbstractConnection, packed: Sequence[bytes], num_commands: int) -> list[Any]:
    """The replies in order, with an error in place of one that the server refused.

    Raises _Refused if the server ends the connection because of a command.

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
                reply = await _reply(connection)
                if isinstance(reply, ResponseError) and is_protocol_error(reply):
                    raise _Refused(len(replies), reply)
                replies.append(reply)
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
