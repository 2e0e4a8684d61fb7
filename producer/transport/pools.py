"""Connection pools for a Redis URL: of one server, along a cluster's route, or through sentinels."""

from typing import Any

from redis import ConnectionPool as BlockingConnectionPool
from redis.asyncio import BlockingConnectionPool as WaitingConnectionPool
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.sentinel import Sentinel as BlockingSentinel
from redis.sentinel import SentinelConnectionPool as BlockingSentinelConnectionPool

from producer.transport.redirects import (
    BlockingRedirectingConnection,
    BlockingRedirectingTlsConnection,
    BlockingUnixConnection,
    RedirectingConnection,
    RedirectingTlsConnection,
    Route,
    UnixConnection,
)
from producer.transport.retry import TRANSIENT_ERRORS, BlockingOutageRetry, OutageBudget, OutageRetry
from producer.transport.url import RedisUrl

_MAX_CONNECTIONS = 64
_HEALTH_CHECK_S = 15
_READ_BYTES = 256 * 1024  # what asyncio takes from a socket at once; an answer is often larger
# redis-py would tell its own name with CLIENT SETINFO, a right that Redis before 7.2 cannot give.
_NAMELESS: dict[str, Any] = {"lib_name": None, "lib_version": None}
_SENTINEL_TIMEOUT_S = 1.0  # the next one is asked then; a host that is gone takes its sentinel along


class _Quick:
    """Hands out and takes back a connection that lies ready without a turn of the event loop.

    redis-py reads from each first, to see that nothing is there; that costs as much as a small command.
    """

    _num_waiting = 0

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        """A connection that is ready to send."""
        idle: list[AbstractConnection] = self._available_connections  # type: ignore[attr-defined]
        if idle and _is_quiet(idle[-1]):
            connection = idle.pop()
            self._in_use_connections.add(connection)  # type: ignore[attr-defined]
            return connection
        self._num_waiting += 1
        try:
            return await super().get_connection(*args, **options)  # type: ignore[misc, no-any-return]
        finally:
            self._num_waiting -= 1

    async def release(self, connection: AbstractConnection) -> None:
        """Take it back, for whoever waits for one."""
        if self._num_waiting:
            await super().release(connection)  # type: ignore[misc]
            return
        self._in_use_connections.remove(connection)  # type: ignore[attr-defined]
        self._available_connections.append(connection)  # type: ignore[attr-defined]


class _WaitingPool(_Quick, WaitingConnectionPool):
    """For one server, or along a route."""


class _SentinelPool(_Quick, SentinelConnectionPool):
    """Closes the connections to the sentinels with its own."""

    async def disconnect(self, inuse_connections: bool = True) -> None:
        await super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                await sentinel.connection_pool.disconnect()


class _BlockingSentinelPool(BlockingSentinelConnectionPool):
    """The same, blocking."""

    def disconnect(self, inuse_connections: bool = True) -> None:
        super().disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in self.sentinel_manager.sentinels:
                sentinel.connection_pool.disconnect()


def open_pool(url: RedisUrl, *, timeout_s: float, patience: OutageBudget) -> ConnectionPool:
    """A pool of asynchronous connections; none is made yet."""
    options = _options(url, timeout_s, OutageRetry(patience))
    sentinel = _sentinel_options(url, timeout_s)
    if url.scheme == "unix":
        return _WaitingPool(connection_class=UnixConnection, path=url.path, **options)
    if url.service:
        manager = Sentinel(list(url.hosts), sentinel_kwargs=sentinel)  # type: ignore[no-untyped-call]
        return _SentinelPool(url.service, manager, ssl=url.tls, **options)  # type: ignore[no-untyped-call]
    kind = RedirectingTlsConnection if url.tls else RedirectingConnection
    return _WaitingPool(connection_class=kind, route=Route(url.hosts), **options)


def open_blocking_pool(url: RedisUrl, *, timeout_s: float, patience: OutageBudget) -> BlockingConnectionPool:
    """A pool of blocking connections; none is made yet."""
    options = _options(url, timeout_s, BlockingOutageRetry(patience))
    sentinel = _sentinel_options(url, timeout_s)
    if url.scheme == "unix":
        return BlockingConnectionPool(connection_class=BlockingUnixConnection, path=url.path, **options)
    if url.service:
        manager = BlockingSentinel(list(url.hosts), sentinel_kwargs=sentinel)  # type: ignore[no-untyped-call]
        return _BlockingSentinelPool(url.service, manager, ssl=url.tls, **options)  # type: ignore[no-untyped-call]
    kind = BlockingRedirectingTlsConnection if url.tls else BlockingRedirectingConnection
    return BlockingConnectionPool(connection_class=kind, route=Route(url.hosts), **options)


def _options(url: RedisUrl, timeout_s: float, retry: object) -> dict[str, Any]:
    connect_timeout = {} if url.scheme == "unix" else {"socket_connect_timeout": timeout_s}
    return {
        "socket_timeout": timeout_s,
        "socket_read_size": _READ_BYTES,
        **connect_timeout,
        "max_connections": _MAX_CONNECTIONS,
        "health_check_interval": _HEALTH_CHECK_S,
        **_NAMELESS,
        **url.options,
        "retry": retry,
        "retry_on_error": list(TRANSIENT_ERRORS),
    }


def _sentinel_options(url: RedisUrl, timeout_s: float) -> dict[str, Any]:
    tls = {name: value for name, value in url.options.items() if name.startswith("ssl_")}
    limit_s = min(timeout_s, _SENTINEL_TIMEOUT_S)
    limits = {"socket_timeout": limit_s, "socket_connect_timeout": limit_s}
    return {"ssl": url.tls, **tls, **limits, **_NAMELESS, **url.sentinel_options}


def _is_quiet(connection: Any) -> bool:
    """Whether it is open and nothing lies there to be read, a reply that came too late or the end."""
    reader = connection._reader
    return reader is not None and not reader._buffer and not reader.at_eof()
