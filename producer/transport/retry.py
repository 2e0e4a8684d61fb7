"""How long an outage of Redis is waited out before it is an error."""

import asyncio
import random
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, TimeoutError
from redis.retry import Retry as BlockingRetry

# OSError: redis-py's retry sees the raw error of a refused connection before it is translated.
TRANSIENT_ERRORS = (ConnectionError, TimeoutError, OSError)
_FIRST_PAUSE_S, _MAX_PAUSE_S = 0.1, 1.0
_REFUSALS = (AuthenticationError, AuthorizationError)
_TLS_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_Answer = TypeVar("_Answer")


class OutageBudget:
    """How long the connections of one client try again, in all, from the first failure of an outage on.

    `outage_s` may be changed at any time. What no wait can mend, a wrong password or a certificate that
    is not trusted, is not tried again.
    """

    def __init__(self, outage_s: float) -> None:
        self.outage_s = outage_s
        self._down_since_s: float | None = None

    def succeeded(self) -> None:
        """The outage, if there was one, is over."""
        self._down_since_s = None

    def pause_s(self, error: BaseException, num_failures: int) -> float:
        """How long to wait before the next try; raises the error if there shall be none."""
        now_s = time.monotonic()
        if self._down_since_s is None:
            self._down_since_s = now_s
        if now_s - self._down_since_s >= self.outage_s or _is_refusal(error):
            raise error
        return min(_MAX_PAUSE_S, _FIRST_PAUSE_S * 2.0**num_failures * random.random())


class OutageRetry(Retry):
    """redis-py's retry with our patience.

    redis-py retries a command, within it the connecting, and with sentinels that once more; here only the
    outermost of them is a loop, so that tries do not multiply.
    """

    def __init__(self, patience: OutageBudget) -> None:
        super().__init__(NoBackoff(), 0)
        self._patience = patience
        self._within = False

    def __deepcopy__(self, _: object) -> "OutageRetry":
        return OutageRetry(self._patience)  # each connection has its own, the patience is the client's

    async def call_with_retry(
        self, do: Callable[[], Awaitable[_Answer]], fail: Callable[[Any], Any]
    ) -> _Answer:
        """What `do` returns, tried again after TRANSIENT_ERRORS; `fail` is told of each."""
        if self._within:
            return await _attempt(do, fail)
        self._within, num_failures = True, 0
        try:
            while True:
                try:
                    answer = await _attempt(do, fail)
                except TRANSIENT_ERRORS as error:
                    await asyncio.sleep(self._patience.pause_s(error, num_failures))
                    num_failures += 1
                else:
                    self._patience.succeeded()
                    return answer
        finally:
            self._within = False


class BlockingOutageRetry(BlockingRetry):
    """The same for blocking connections."""

    def __init__(self, patience: OutageBudget) -> None:
        super().__init__(NoBackoff(), 0)
        self._patience = patience
        self._within = False

    def __deepcopy__(self, _: object) -> "BlockingOutageRetry":
        return BlockingOutageRetry(self._patience)

    def call_with_retry(self, do: Callable[[], _Answer], fail: Callable[[Any], Any]) -> _Answer:
        """What `do` returns, tried again after TRANSIENT_ERRORS; `fail` is told of each."""
        if self._within:
            return _attempt_blocking(do, fail)
        self._within, num_failures = True, 0
        try:
            while True:
                try:
                    answer = _attempt_blocking(do, fail)
                except TRANSIENT_ERRORS as error:
                    time.sleep(self._patience.pause_s(error, num_failures))
                    num_failures += 1
                else:
                    self._patience.succeeded()
                    return answer
        finally:
            self._within = False


async def _attempt(do: Callable[[], Awaitable[_Answer]], fail: Callable[[Any], Any]) -> _Answer:
    try:
        return await do()
    except TRANSIENT_ERRORS as error:
        await fail(error)
        raise


def _attempt_blocking(do: Callable[[], _Answer], fail: Callable[[Any], Any]) -> _Answer:
    try:
        return do()
    except TRANSIENT_ERRORS as error:
        fail(error)
        raise


def _is_refusal(error: BaseException) -> bool:
    tls = tls_error(error)
    return isinstance(error, _REFUSALS) or (tls is not None and not isinstance(tls, _TLS_CUT))


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The error of TLS behind what redis-py raised, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause
