"""The one way to Redis: from a URL to a client with timeouts, retries and our errors."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

from arq.connections import ArqRedis
from redis import ConnectionPool as BlockingPool
from redis import Redis as BlockingRedis
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry as BlockingRetry

from producer.errors import QueueError, QueueUnavailable, SettingsError

DEFAULT_URL = "redis://localhost:6379"
# OSError: redis-py's retry sees the raw error of a refused connection before it is translated.
TRANSIENT_ERRORS = (ConnectionError, TimeoutError, OSError)
_LISTEN_S = 5.0
_RECONNECT_S = 0.25
_SCHEMES = ("redis", "rediss", "unix")


def connect(url: str = DEFAULT_URL, *, timeout_s: float = 10.0, num_retries: int = 6) -> ArqRedis:
    """A client for `url`; nothing is sent before its first command.

    `redis://`, `rediss://` (TLS, certificate checked) and `unix://` with percent-encoded credentials and
    redis-py's query options. A command gives up after `num_retries` tries with growing pauses, in all about
    5 s when the connection is refused; a silent peer costs `timeout_s` a try. Raises SettingsError.
    """
    redis = ArqRedis(_pool(ConnectionPool, url, Retry(_backoff(), num_retries), timeout_s))
    redis.auto_close_connection_pool = True  # the pool is ours alone
    return redis


def connect_blocking(
    url: str = DEFAULT_URL, *, timeout_s: float = 10.0, num_retries: int = 6
) -> BlockingRedis:
    """The same for a thread of its own."""
    retry = BlockingRetry(_backoff(), num_retries)
    redis = BlockingRedis(connection_pool=_pool(BlockingPool, url, retry, timeout_s))
    redis.auto_close_connection_pool = True
    return redis


def _backoff() -> ExponentialWithJitterBackoff:
    return ExponentialWithJitterBackoff(base=0.1, cap=1.5)


_Pool = TypeVar("_Pool", ConnectionPool, BlockingPool)


def _pool(kind: type[_Pool], url: str, retry: object, timeout_s: float) -> _Pool:
    scheme = urlsplit(url).scheme
    if scheme not in _SCHEMES:
        raise SettingsError(f"{redacted(url)!r} is no Redis URL; use one of {', '.join(_SCHEMES)} as scheme")
    database = urlsplit(url).path.strip("/")
    if scheme != "unix" and database and not database.isdecimal():  # redis-py would take database 0
        raise SettingsError(f"{redacted(url)!r} is no Redis URL: {database!r} is no number of a database")
    options: dict[str, object] = {
        "socket_timeout": timeout_s,
        "retry": retry,
        "retry_on_error": list(TRANSIENT_ERRORS),
        "max_connections": 64,
        "health_check_interval": 15,
    }
    if scheme != "unix":
        options["socket_connect_timeout"] = timeout_s
    if scheme == "rediss":
        options["ssl_check_hostname"] = True
    try:
        return kind.from_url(url, **options)
    except ValueError as error:
        raise SettingsError(f"{redacted(url)!r} is no Redis URL: {error}") from error


@asynccontextmanager
async def subscribed(redis: Redis, channel: str, on_message: Callable[[bytes], None]) -> AsyncIterator[None]:
    """Hand every message on the channel to `on_message` as long as the block lasts.

    A lost connection is made again; what was published meanwhile is lost. Raises redis-py's errors if the
    first subscription fails.
    """
    pubsub = redis.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(channel)
    task = asyncio.create_task(_listen(pubsub, on_message), name=f"listener {channel}")
    try:
        yield
    finally:
        await end_tasks(task)
        with suppress(RedisError, OSError):  # an error in closing must not hide a cancellation
            await pubsub.aclose()  # type: ignore[no-untyped-call]


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, whatever they raise.

    Once is not enough: redis-py writes through asyncio.wait_for, which before Python 3.12 swallows a
    cancellation that meets its completion, and the task would run on for ever.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # or asyncio would complain that nobody has looked


async def _listen(pubsub: PubSub, on_message: Callable[[bytes], None]) -> None:
    while True:
        try:
            # Bounded, since a read without end counts as a silent peer and would reconnect.
            message = await pubsub.get_message(timeout=_LISTEN_S)
        except (RedisError, OSError):
            await asyncio.sleep(_RECONNECT_S)  # the next read reconnects and subscribes again
            continue
        if message is not None:
            on_message(message["data"])


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Translate what redis-py raises: QueueUnavailable with the address, never with the password.

    A cancellation that meets redis-py's work on it, such as that of `asyncio.timeout`, ends the block in any
    case: before Python 3.12 redis-py may swallow it, as told at `end_tasks`.
    """
    task = asyncio.current_task()
    num_cancellations = 0 if task is None else task.cancelling()
    try:
        with _translated(url):
            yield
    except QueueError:
        if task is None or task.cancelling() == num_cancellations:
            raise
    if task is not None and task.cancelling() > num_cancellations:
        raise asyncio.CancelledError


@contextmanager
def _translated(url: str) -> Iterator[None]:
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise QueueUnavailable(f"Redis at {redacted(url)} refuses us: {error}") from error
    except TRANSIENT_ERRORS as error:
        raise QueueUnavailable(
            f"no Redis at {redacted(url)} ({str(error) or type(error).__name__}); "
            "check the address, and that the server runs and can be reached from here"
        ) from error
    except ResponseError as error:
        raise QueueError(f"Redis at {redacted(url)} answered: {error}") from error
    except RedisError as error:
        raise QueueUnavailable(f"Redis at {redacted(url)}: {str(error) or type(error).__name__}") from error


def redacted(url: str) -> str:
    """The URL without credentials and query, fit for logs."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}" if parts.scheme else host + parts.path
