"""Connection pools for a Redis URL: for one server, along a cluster's route, or through sentinels."""

import asyncio
from typing import Any

from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from producer.errors import ClientClosed
from producer.transport.redirects import (
    RedirectingConnection,
    RedirectingTlsConnection,
    Route,
    SentinelConnection,
    SentinelTlsConnection,
    UnixConnection,
)
from producer.transport.redis_internals import is_quiet, nameless
from producer.transport.retry import TRANSIENT_ERRORS, OutageBudget, OutageRetry
from producer.transport.url import RedisUrl

_MAX_CONNECTIONS = 64
_HEALTH_CHECK_S = 15
_READ_BYTES = 256 * 1024  # what asyncio takes from a socket at once; a reply is often larger
_SENTINEL_TIMEOUT_S = 1.0  # then the next one is asked; a sentinel may be down with its primary's host
_PROTOCOL = 2  # redis-py 8 would choose 3, whose HELLO costs a round trip and whose replies differ


class _QuickPool(ConnectionPool):
    """Hands out and takes back an idle connection without yielding to the event loop.

    redis-py reads from each connection first to see that nothing is there, which costs as much as a small
    command. It counts our idle connections as in use.
    """

    def __init__(self, *args: Any, outage_budget: OutageBudget, **options: Any) -> None:
        options |= {"retry": OutageRetry(outage_budget), "retry_on_error": list(TRANSIENT_ERRORS)}
        super().__init__(*args, **options)
        self.outage_budget = outage_budget
        self._idle: list[AbstractConnection] = []
        self._num_waiting = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # redis-py 6 and 7 show the password

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        """A connection that is ready to send. Raises ClientClosed once the pool is closed."""
        self.check_open()
        if self._idle:
            connection = self._idle.pop()
            if not is_quiet(connection):
                await self._mend(connection)
            return connection
        self._num_waiting += 1
        try:
            fresh: AbstractConnection = await super().get_connection(*args, **options)
            return fresh
        except Exception as error:
            self.check_open(error)
            raise
        finally:
            self._num_waiting -= 1

    def check_open(self, cause: Exception | None = None) -> None:
        """Raise ClientClosed if the pool is closed: redis-py fails in any way if that happens under it."""
        if self._closed:
            raise ClientClosed("the client is closed; open another one") from cause

    async def release(self, connection: AbstractConnection) -> None:
        """Take the connection back and wake a coroutine that waits for one.

        A command still under way when the pool was closed may have connected since: nobody else would close
        its connection.
        """
        if self._closed:
            await connection.disconnect()
        if self._num_waiting:
            await super().release(connection)
        else:
            self._idle.append(connection)

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the idle connections, and those in use if `inuse_connections`: then the pool is closed."""
        self._closed = self._closed or inuse_connections
        if not inuse_connections:
            await asyncio.gather(*(connection.disconnect() for connection in self._idle))
        await super().disconnect(inuse_connections)

    async def _mend(self, connection: AbstractConnection) -> None:
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise


class _ServerPool(_QuickPool, BlockingConnectionPool):
    """For one server, or along a route; waits for a connection if all are in use."""


class _SentinelPool(_QuickPool, SentinelConnectionPool):
    """Closes its connections to the sentinels along with those to the primary."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect()


def open_pool(url: RedisUrl, *, timeout_s: float, outage_budget: OutageBudget) -> ConnectionPool:
    """A pool that has no connections yet."""
    options = _options(url, timeout_s, outage_budget)
    if url.scheme == "unix":
        return _ServerPool(connection_class=UnixConnection, path=url.path, **options)
    if url.service:
        manager = Sentinel(list(url.hosts), sentinel_kwargs=_sentinel_options(url, timeout_s))
        to_primary = SentinelTlsConnection if url.tls else SentinelConnection
        return _SentinelPool(url.service, manager, connection_class=to_primary, **options)
    along_route = RedirectingTlsConnection if url.tls else RedirectingConnection
    return _ServerPool(connection_class=along_route, route=Route(url.hosts), **options)


def _options(url: RedisUrl, timeout_s: float, outage_budget: OutageBudget) -> dict[str, Any]:
    connect_timeout = {} if url.scheme == "unix" else {"socket_connect_timeout": timeout_s}
    return {
        "socket_timeout": timeout_s,
        "socket_read_size": _READ_BYTES,
        **connect_timeout,
        "max_connections": _MAX_CONNECTIONS,
        "health_check_interval": _HEALTH_CHECK_S,
        "protocol": _PROTOCOL,
        **nameless(),
        **url.options,
        "outage_budget": outage_budget,
    }


def _sentinel_options(url: RedisUrl, timeout_s: float) -> dict[str, Any]:
    tls = {name: value for name, value in url.options.items() if name.startswith("ssl_")}
    limit_s = min(timeout_s, _SENTINEL_TIMEOUT_S)
    return {
        "ssl": url.tls,
        **tls,
        "socket_timeout": limit_s,
        "socket_connect_timeout": limit_s,
        "protocol": _PROTOCOL,
        "retry": Retry(NoBackoff(), 0),  # ours retries; redis-py's default since version 6 takes seconds
        **nameless(),
        **url.sentinel_options,
    }
