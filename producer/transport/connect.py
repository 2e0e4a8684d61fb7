"""Connects to Redis: from a URL to a client with timeouts, retries and our errors."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.asyncio.sentinel import MasterNotFoundError as NoPrimaryError
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from producer.errors import QueueError, QueueUnavailable, RequestTooLarge
from producer.transport.pools import open_pool
from producer.transport.retry import TRANSIENT_ERRORS, OutageBudget, is_protocol_error, tls_error
from producer.transport.url import parse, redacted

DEFAULT_URL = "redis://localhost:6379"
OUTAGE_S = 5.0
_LISTEN_S = 5.0
_SILENCE_S = 5.0  # a health check unanswered for this long means that the server is gone
_RECONNECT_S = 0.25


def connect(
    url: str = DEFAULT_URL, *, timeout_s: float = 10.0, outage_budget: OutageBudget | None = None
) -> Redis:
    """A client for any `url` of docs/reference/connections.md; it connects at its first command.

    A server that does not answer within `timeout_s` is given up; a command is retried with growing pauses as
    long as the `outage_budget` lasts (OUTAGE_S by default). Use the client in one event loop. Raises
    SettingsError.
    """
    pool = open_pool(parse(url), timeout_s=timeout_s, outage_budget=outage_budget or OutageBudget(OUTAGE_S))
    return _Client.from_pool(pool)


class _Client(Redis):
    """Closes every connection even if cancelled; redis-py forgets those that it was closing."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await uninterrupted(super().aclose(close_connection_pool))


def _ignore(_: bool) -> None:
    """The default of `on_connection`."""


@asynccontextmanager
async def subscribed(
    redis: Redis,
    channel: str,
    on_message: Callable[[bytes], None],
    *,
    on_connection: Callable[[bool], None] = _ignore,
    sharded: bool = False,
) -> AsyncIterator[None]:
    """Pass every message on the channel to `on_message` while the block lasts.

    A lost connection is re-established, but messages published meanwhile are lost: `on_connection` is called
    with False when it is lost, and with True when the channel is subscribed again. Raises redis-py's errors
    if the first subscription fails. With `sharded` the messages are those of SPUBLISH.
    """
    pubsub = (_ShardedPubSub if sharded else PubSub)(redis.connection_pool)
    await pubsub.subscribe(channel)
    listening = _listen(pubsub, on_message, on_connection)
    task = asyncio.create_task(listening, name=f"listener {channel}")
    try:
        yield
    finally:
        await uninterrupted(_unsubscribe(pubsub, task))


class _ShardedPubSub(PubSub):
    """Subscribes with SSUBSCRIBE, also after a reconnection."""

    async def execute_command(self, *args: Any) -> None:
        command = "SSUBSCRIBE" if args[0] == "SUBSCRIBE" else args[0]
        await super().execute_command(command, *args[1:])


async def shards_messages(redis: Redis) -> bool:
    """True in a cluster that has sharded messages: Redis 7 or later."""
    told = await redis.execute_command("HELLO")
    facts = dict(zip(told[::2], told[1::2], strict=True))
    return facts.get(b"mode") == b"cluster" and int(facts[b"version"].split(b".")[0]) >= 7


async def _unsubscribe(pubsub: PubSub, listener: asyncio.Task[None]) -> None:
    await end_tasks(listener)
    with suppress(RedisError, OSError):  # an error in closing must not hide a cancellation
        await pubsub.aclose()


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Do this work to its end, however often we are cancelled meanwhile; then end as cancelled.

    For what must not be left half done, such as closing a connection, and takes a bounded time.
    """
    task, cancelled = asyncio.ensure_future(work), False
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    task.result()


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel the tasks and wait until they have ended, whatever they raise.

    Cancelling once is not enough: redis-py writes through asyncio.wait_for, which before Python 3.12 swallows
    a cancellation that arrives as it completes, and the task would never end.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=1.0)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved, so that asyncio does not log it


async def _listen(
    pubsub: PubSub, on_message: Callable[[bytes], None], on_connection: Callable[[bool], None]
) -> None:
    while True:
        try:
            # With a timeout, since a read that never ends would be taken for a server that is gone.
            message = await pubsub.get_message(timeout=_LISTEN_S)
            if message is None:
                await _drop_if_silent(pubsub)
        except (RedisError, OSError):
            on_connection(False)
            await asyncio.sleep(_RECONNECT_S)  # the next read reconnects and subscribes again
            continue
        kind = None if message is None else message["type"]
        if message is not None and kind in ("message", "smessage"):
            on_message(message["data"])
        elif kind in ("subscribe", "ssubscribe"):
            on_connection(True)  # at first, and whenever redis-py has reconnected, on its own or not
        elif kind == "sunsubscribe":  # the queue has moved to another node of the cluster
            on_connection(False)
            connection: Any = pubsub.connection
            await connection.disconnect(nowait=True)


async def _drop_if_silent(pubsub: PubSub) -> None:
    """Disconnect if the server is gone: redis-py sends health checks, but does not notice missing replies."""
    connection: Any = pubsub.connection
    if asyncio.get_running_loop().time() > connection.next_health_check + _SILENCE_S:
        await connection.disconnect(nowait=True)


@contextmanager
def redis_errors(url: str) -> Iterator[None]:
    """Translate redis-py's errors to QueueUnavailable, with the address and without the password.

    A cancellation, such as that of `asyncio.timeout`, always ends the block: before Python 3.12 redis-py may
    swallow it (see `end_tasks`).
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
        raise QueueUnavailable(f"{where} refuses the connection: {error}") from error
    except NoPrimaryError as error:
        raise QueueUnavailable(
            f"{where}: no reachable sentinel knows a primary of that name; check the name and the hosts"
        ) from error
    except TRANSIENT_ERRORS as error:
        if tls := tls_error(error):
            raise QueueUnavailable(f"{where}: {_about_tls(tls)}") from error
        reason = str(error) or type(error).__name__
        hint = _tls_hint(reason) if url.startswith("rediss") else ""
        hint = hint or "; check the address, and that the server runs and can be reached from here"
        raise QueueUnavailable(f"no {where} ({reason}){hint}") from error
    except OutOfMemoryError as error:
        raise QueueUnavailable(f"{where} has reached its maxmemory; raise it, or wait") from error
    except ReadOnlyError as error:
        raise QueueUnavailable(f"{where} is a replica and takes no writes; connect to the primary") from error
    except ResponseError as error:
        if is_protocol_error(error):
            raise RequestTooLarge(
                f"{where} takes no value of this size ({error}); send fewer texts in a job, or raise its "
                "proto-max-bulk-len"
            ) from error
        raise QueueError(f"{where} replied: {error}") from error
    except RedisError as error:
        raise QueueUnavailable(f"{where}: {str(error) or type(error).__name__}") from error


_OUR_CERTIFICATE = "it asks for a client certificate; name one with ssl_certfile and ssl_keyfile"
# What redis-py reports if a server drops our TLS handshake without giving a reason.
_TLS_HINTS = {
    "Timeout connecting to server": "; if it does not speak TLS, write redis:// instead of rediss://",
    "Connection closed by server": f"; perhaps {_OUR_CERTIFICATE}",
    "Connection reset by peer": f"; perhaps {_OUR_CERTIFICATE}",
}


def _tls_hint(reason: str) -> str:
    return next((hint for words, hint in _TLS_HINTS.items() if words in reason), "")


_HOST_MISMATCH = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_OUT_OF_DATE = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
# X509_V_ERR_INVALID_CA to X509_V_ERR_EC_KEY_EXPLICIT_PARAMS: most are what X509_V_FLAG_X509_STRICT adds.
_MALFORMED = range(79, 95)


def _about_tls(error: ssl.SSLError) -> str:
    """What is wrong with the TLS connection, and what to do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _HOST_MISMATCH:
            return f"its certificate is for another host: {error.verify_message}; use a host that it names"
        if error.verify_code in _OUT_OF_DATE:
            return (
                f"its certificate has expired or is not valid yet: {error.verify_message}; "
                "renew it, or correct the clock"
            )
        if error.verify_code in _MALFORMED:
            return (
                f"its certificate is not trusted: {error.verify_message}; reissue that certificate, the "
                "server's or its authority's, in conformance with RFC 5280, which Python 3.13 enforces"
            )
        return (
            f"its certificate is not trusted: {error.verify_message}; "
            "name the authority that signed it with ssl_ca_certs"
        )
    reason = str(error.reason or error)
    if "CERTIFICATE_REQUIRED" in reason:
        return _OUR_CERTIFICATE
    return (
        f"the TLS handshake failed ({reason}); if it does not speak TLS, write redis:// instead of rediss://"
    )
