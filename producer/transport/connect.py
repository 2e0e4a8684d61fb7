"""The one way to Redis: from a URL to a client with timeouts, retries and our errors."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from arq.connections import ArqRedis
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.sentinel import MasterNotFoundError as NoPrimary
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.sentinel import MasterNotFoundError as NoPrimaryForBlocking

from producer.errors import QueueError, QueueUnavailable
from producer.transport.pools import open_blocking_pool, open_pool
from producer.transport.retry import TRANSIENT_ERRORS, OutageBudget, tls_error
from producer.transport.url import parse, redacted

DEFAULT_URL = "redis://localhost:6379"
OUTAGE_S = 5.0
_LISTEN_S = 5.0
_SILENCE_S = 5.0  # so long after it was due, no answer to a health check means nobody is there
_RECONNECT_S = 0.25


def connect(
    url: str = DEFAULT_URL, *, timeout_s: float = 10.0, patience: OutageBudget | None = None
) -> ArqRedis:
    """A client for `url`; nothing is sent before its first command.

    The forms of the URL are in docs/delivery.md. A silent peer is given up after `timeout_s`; a command is
    tried again with growing pauses as long as the `patience` lasts, OUTAGE_S if none is given. Raises
    SettingsError.
    """
    pool = open_pool(parse(url), timeout_s=timeout_s, patience=patience or OutageBudget(OUTAGE_S))
    redis = _Client(pool)
    redis.auto_close_connection_pool = True  # the pool is ours alone
    return redis


def connect_blocking(
    url: str = DEFAULT_URL, *, timeout_s: float = 10.0, patience: OutageBudget | None = None
) -> BlockingRedis:
    """The same for a thread of its own."""
    pool = open_blocking_pool(parse(url), timeout_s=timeout_s, patience=patience or OutageBudget(OUTAGE_S))
    redis = BlockingRedis(connection_pool=pool)
    redis.auto_close_connection_pool = True
    return redis


class _Client(ArqRedis):
    """Leaves no connection open: redis-py forgets those that it was closing when it was cancelled."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        closing = asyncio.ensure_future(super().aclose(close_connection_pool))
        try:
            await asyncio.shield(closing)
        finally:
            await asyncio.wait({closing})


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
            if message is None:
                await _drop_if_silent(pubsub)
        except (RedisError, OSError):
            await asyncio.sleep(_RECONNECT_S)  # the next read reconnects and subscribes again
            continue
        if message is not None:
            on_message(message["data"])


async def _drop_if_silent(pubsub: PubSub) -> None:
    """Nobody tells a listener that its server is gone; redis-py asks it, and does not mind no answer."""
    connection: Any = pubsub.connection
    if asyncio.get_running_loop().time() > connection.next_health_check + _SILENCE_S:
        await connection.disconnect(nowait=True)


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
    where = f"Redis at {redacted(url)}"
    try:
        yield
    except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
        raise QueueUnavailable(f"{where} refuses us: {error}") from error
    except (NoPrimary, NoPrimaryForBlocking) as error:
        raise QueueUnavailable(f"{where}: no sentinel answers that knows a primary of that name") from error
    except TRANSIENT_ERRORS as error:
        if tls := tls_error(error):
            raise QueueUnavailable(f"{where}: {_about_tls(tls)}") from error
        reason = str(error) or type(error).__name__
        hint = _TLS_HINTS.get(reason, "") if url.startswith("rediss") else ""
        hint = hint or "; check the address, and that the server runs and can be reached from here"
        raise QueueUnavailable(f"no {where} ({reason}){hint}") from error
    except OutOfMemoryError as error:
        raise QueueUnavailable(f"{where} has reached its maxmemory; give it more, or wait") from error
    except ReadOnlyError as error:
        raise QueueUnavailable(f"{where} is a replica and takes no writes") from error
    except ResponseError as error:
        raise QueueError(f"{where} answered: {error}") from error
    except RedisError as error:
        raise QueueUnavailable(f"{where}: {str(error) or type(error).__name__}") from error


_OUR_CERTIFICATE = "it wants a certificate of ours; name one with ssl_certfile and ssl_keyfile"
# What a server that does not like our greeting does without a word.
_TLS_HINTS = {
    "Timeout connecting to server": "; if it does not speak TLS the URL begins with redis, not rediss",
    "Connection closed by server.": f"; perhaps {_OUR_CERTIFICATE}",
}
_HOST_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUT_OF_DATE = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
# X509_V_ERR_INVALID_CA to X509_V_ERR_EC_KEY_EXPLICIT_PARAMS: most are what X509_V_FLAG_X509_STRICT adds.
_MALFORMED = range(79, 95)


def _about_tls(error: ssl.SSLError) -> str:
    """What is wrong, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _HOST_MISMATCH:
            return f"its certificate is another host's: {error.verify_message}"
        if error.verify_code in _OUT_OF_DATE:
            return f"its certificate is out of date: {error.verify_message}; renew it, or set the clock right"
        if error.verify_code in _MALFORMED:
            return (
                f"its certificate is not trusted: {error.verify_message}; that certificate, the server's or "
                "its authority's, must be made again by the rules of RFC 5280, which Python 3.13 checks"
            )
        return (
            f"its certificate is not trusted: {error.verify_message}; "
            "name the authority that signed it with ssl_ca_certs"
        )
    reason = str(error.reason or error)
    if "CERTIFICATE_REQUIRED" in reason:
        return _OUR_CERTIFICATE
    return f"it does not speak TLS as we do ({reason}); without TLS the URL begins with redis, not rediss"
