"""Connections that go where Redis redirects them: to the node that holds the queue, or to the new primary."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
from redis.exceptions import ConnectionError, ResponseError

from producer.transport.redis_internals import split_code
from producer.transport.retry import TRANSIENT_ERRORS, is_refusal, is_replica
from producer.transport.url import Address

# Error codes of a server that cannot serve us now, while another one, or the same one later, may.
_ELSEWHERE = ("MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN")


class Route:
    """The address of one queue's server: one of the seeds until a node redirects us to another.

    A queue lives in one slot of a cluster, so one address holds for all its keys.
    """

    def __init__(self, seeds: tuple[Address, ...]) -> None:
        self._seeds = seeds
        self._num_lost = 0
        self._moved: Address | None = None

    @property
    def address(self) -> Address:
        """Where to connect now."""
        return self._moved or self._seeds[self._num_lost % len(self._seeds)]

    def lost(self, address: Address) -> None:
        """Move on to the next seed, since nothing answers at `address`."""
        if address == self.address:
            self._moved, self._num_lost = None, self._num_lost + 1

    def redirect(self, error: ResponseError, address: Address) -> None:
        """Raise ConnectionError, which is retried, if the server at `address` redirects or is a replica."""
        if is_replica(error):
            raise ConnectionError(f"it is a replica and takes no writes (READONLY): {error}") from error
        code, words = split_code(error)
        if code not in _ELSEWHERE:
            return
        if code == "MOVED":
            host, _, port = words.rpartition(" ")[2].rpartition(":")
            self._moved = (host or address[0], int(port))  # no host means the one that answered
        raise ConnectionError(f"{code} {words}") from error


class _Reconnecting(AbstractConnection):
    """Connects through `connect` whenever it connects, and retries all of it.

    Before version 6 redis-py does not retry the handshake and authentication, and since then a command that
    is retried connects to the address of the first try, past the `connect` of its subclasses.
    """

    async def connect(self) -> None:
        """Connect unless connected."""
        await self.retry.call_with_retry(self._connect_once, self._drop)

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send it, after connecting if that is necessary."""
        if not self.is_connected:
            await self.connect()
        await super().send_packed_command(command, check_health)

    async def _connect_once(self) -> None:
        connect: Callable[[], Awaitable[None]] = super().connect
        await connect()

    async def _drop(self, _: object) -> None:
        await self.disconnect(nowait=True)


class RedirectingConnection(_Reconnecting, Connection):
    """A TCP connection along a route."""

    def __init__(self, *, route: Route, **options: Any) -> None:
        super().__init__(**options)
        self._route = route
        self.host, self.port = route.address

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """The server's reply; ConnectionError after a redirect, which the next try follows."""
        try:
            return await super().read_response(*args, **options)
        except ResponseError as error:
            self._route.redirect(error, (self.host, self.port))
            raise

    async def _connect_once(self) -> None:
        if self.is_connected:
            return
        self.host, self.port = self._route.address
        try:
            await super()._connect_once()
        except TRANSIENT_ERRORS as error:
            if not is_refusal(error):
                self._route.lost((self.host, self.port))
            raise


class RedirectingTlsConnection(RedirectingConnection, SSLConnection):
    """A TLS connection along a route."""


class UnixConnection(_Reconnecting, UnixDomainSocketConnection):
    """A connection through a Unix domain socket."""


class SentinelConnection(_Reconnecting, SentinelManagedConnection):
    """A TCP connection to the primary that the sentinels name."""


class SentinelTlsConnection(_Reconnecting, SentinelManagedSSLConnection):
    """A TLS connection to the primary that the sentinels name."""
