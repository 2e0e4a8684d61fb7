"""Connections that go where Redis sends them: to the node that holds the queue, to the new primary."""

from typing import Any

from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.connection import Connection as BlockingConnection
from redis.connection import SSLConnection as BlockingSSLConnection
from redis.connection import UnixDomainSocketConnection as BlockingUnixDomainSocketConnection
from redis.exceptions import ConnectionError, ReadOnlyError, ResponseError

from producer.transport.retry import BlockingOutageRetry, OutageRetry
from producer.transport.url import Address

# What a server says that cannot serve us now, while another one, or itself a little later, may.
_ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")


class Route:
    """Where the server of one queue is: one of the addresses given, until a node names another.

    A queue lives in one slot of a cluster, so one address holds for all its keys.
    """

    def __init__(self, seeds: tuple[Address, ...]) -> None:
        self._seeds = seeds
        self._num_lost = 0
        self._moved: Address | None = None

    @property
    def address(self) -> Address:
        """Where to connect to now."""
        return self._moved or self._seeds[self._num_lost % len(self._seeds)]

    def lost(self, address: Address) -> None:
        """Nobody answers there: ask the next of the addresses given."""
        if address == self.address:
            self._moved, self._num_lost = None, self._num_lost + 1

    def follow(self, error: ResponseError, address: Address) -> None:
        """Raises ConnectionError, which is tried again, if the server at `address` says: not here."""
        if isinstance(error, ReadOnlyError):
            raise ConnectionError(f"it is a replica and takes no writes (READONLY): {error}") from error
        code, _, words = str(error).partition(" ")
        if code not in _ELSEWHERE:
            return
        if code == "MOVED":
            host, _, port = words.rpartition(" ")[2].rpartition(":")
            self._moved = (host or address[0], int(port))  # without a host it is the one we know
        raise ConnectionError(str(error)) from error


class _Wholly:
    """Tries again whatever fails while connecting: redis-py leaves out the greeting and the password."""

    async def connect(self) -> None:
        """Connect if that is not done yet."""
        retry: OutageRetry = self.retry  # type: ignore[attr-defined]
        await retry.call_with_retry(super().connect, self._drop)  # type: ignore[misc]

    async def _drop(self, _: object) -> None:
        await self.disconnect(nowait=True)  # type: ignore[attr-defined]


class _BlockingWholly:
    """The same, blocking."""

    def connect(self) -> None:
        """Connect if that is not done yet."""
        retry: BlockingOutageRetry = self.retry  # type: ignore[attr-defined]
        retry.call_with_retry(super().connect, self.disconnect)  # type: ignore[misc, attr-defined]


class _Following(_Wholly):
    """Connects along a route; the rest is the connection's own."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        super().__init__(**options)
        self._route = route
        self.host, self.port = route.address

    async def _connect(self) -> None:
        self.host, self.port = self._route.address
        try:
            await super()._connect()  # type: ignore[misc]
        except OSError:
            self._route.lost((self.host, self.port))
            raise

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The server's answer; ConnectionError if it sends us elsewhere, and then the next try goes there."""
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            self._route.follow(error, (self.host, self.port))
            raise


class _BlockingFollowing(_BlockingWholly):
    """The same, blocking."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        super().__init__(**options)
        self._route = route
        self.host, self.port = route.address

    def _connect(self) -> Any:
        self.host, self.port = self._route.address
        try:
            return super()._connect()  # type: ignore[misc]
        except OSError:
            self._route.lost((self.host, self.port))
            raise

    def read_response(self, *args: Any, **options: Any) -> Any:
        """The server's answer; ConnectionError if it sends us elsewhere, and then the next try goes there."""
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]
        except ResponseError as error:
            self._route.follow(error, (self.host, self.port))
            raise


class RedirectingConnection(_Following, Connection):
    """By TCP."""


class RedirectingTlsConnection(_Following, SSLConnection):
    """By TLS."""


class BlockingRedirectingConnection(_BlockingFollowing, BlockingConnection):
    """By TCP, blocking."""


class BlockingRedirectingTlsConnection(_BlockingFollowing, BlockingSSLConnection):
    """By TLS, blocking."""


class UnixConnection(_Wholly, UnixDomainSocketConnection):
    """By a socket of this machine."""


class BlockingUnixConnection(_BlockingWholly, BlockingUnixDomainSocketConnection):
    """By a socket of this machine, blocking."""
