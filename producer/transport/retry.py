"""Retries Redis commands through an outage, each for as long as the client's outage budget lasts."""

import asyncio
import re
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)

from producer.backoff import Backoff

# OSError: redis-py's retry sees the raw error of a refused connection before it is translated.
TRANSIENT_ERRORS = (ConnectionError, TimeoutError, OSError)
_BACKOFF = Backoff(first_s=0.1, max_s=1.0, jitter=(0.0, 1.0))
_REFUSALS = (AuthenticationError, AuthorizationError)
_TLS_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_Reply = TypeVar("_Reply")


class OutageBudget:
    """How long each command of one client is retried; `outage_s` may be changed at any time."""

    def __init__(self, outage_s: float) -> None:
        self.outage_s = outage_s


class OutageClock:
    """How long one command has been failing: what others succeed in meanwhile does not prolong it.

    An error that waiting cannot cure, such as a wrong password or an untrusted certificate, ends it at once.
    """

    def __init__(self, budget: OutageBudget) -> None:
        self._budget = budget
        self._failing_since_s: float | None = None
        self._num_failures = 0

    def pause_s(self, error: Exception) -> float:
        """The pause in seconds before the next try; raises `error` if there is none."""
        now_s = time.monotonic()
        if self._failing_since_s is None:
            self._failing_since_s = now_s
        self._num_failures += 1
        left_s = self._failing_since_s + self._budget.outage_s - now_s
        if left_s <= 0 or is_refusal(error):
            raise error
        return min(left_s, _BACKOFF.pause_s(self._num_failures))

    @property
    def left_s(self) -> float:
        """How long it may go on failing."""
        since_s = self._failing_since_s
        return self._budget.outage_s - (0.0 if since_s is None else time.monotonic() - since_s)


# True within a try that something further out repeats.
_repeated: ContextVar[bool] = ContextVar("repeated", default=False)


@contextmanager
def single_try() -> Iterator[None]:
    """Whatever redis-py does in this block is tried once."""
    before = _repeated.set(True)
    try:
        yield
    finally:
        _repeated.reset(before)


class OutageRetry(Retry):
    """redis-py's retry, bounded by an outage budget instead of a number of tries.

    redis-py nests retries: of commands, of connecting within them, and with Sentinel once more. Only the
    outermost loops here, so that tries do not multiply.
    """

    def __init__(self, outage_budget: OutageBudget) -> None:
        super().__init__(NoBackoff(), 0)
        self.outage_budget = outage_budget

    def __deepcopy__(self, _: object) -> "OutageRetry":
        # redis-py copies it for each connection; the budget is the client's.
        return OutageRetry(self.outage_budget)

    async def call_with_retry(
        self,
        do: Callable[[], Awaitable[_Reply]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> _Reply:
        """The result of `do`, retried after TRANSIENT_ERRORS that are retryable.

        `fail` is called with each error, and with the number of failures if `with_failure_count`.
        """
        clock, num_failures, outermost = OutageClock(self.outage_budget), 0, not _repeated.get()
        while True:
            try:
                with single_try():
                    return await do()
            except TRANSIENT_ERRORS as error:
                if is_retryable is not None and not is_retryable(error):
                    raise
                num_failures += 1
                await (fail(error, num_failures) if with_failure_count else fail(error))
                if not outermost:
                    raise
                pause_s = clock.pause_s(error)
            await asyncio.sleep(pause_s)


def is_refusal(error: BaseException) -> bool:
    """True if the server refused us or its certificate was rejected, so that waiting does not help."""
    tls = tls_error(error)
    return isinstance(error, _REFUSALS) or (tls is not None and not isinstance(tls, _TLS_CUT))


def is_protocol_error(error: ResponseError) -> bool:
    """True if the server could not take a command and ends the connection: a value is too large for it."""
    return str(error).startswith("Protocol error")


# What a server answers that cannot serve now, but may later; inside a script's error as well.
_PASSING = re.compile(
    r"\b(OOM|READONLY|MISCONF|NOREPLICAS|CLUSTERDOWN|MASTERDOWN|TRYAGAIN|LOADING|BUSY|NOAUTH|NOPERM|MOVED|ASK)\b"
)


def memory_is_full(error: Exception) -> bool:
    """True if the server has reached its maxmemory; before Redis 7 it says so in a script's error."""
    return isinstance(error, OutOfMemoryError) or re.search(r"\bOOM\b", str(error)) is not None


def is_replica(error: Exception) -> bool:
    """True if the server takes no writes; before Redis 7 it says so in a script's error."""
    return isinstance(error, ReadOnlyError) or re.search(r"\bREADONLY\b", str(error)) is not None


def is_permanent(error: Exception) -> bool:
    """True if the server answered that it cannot carry out the command, which waiting does not change."""
    passing = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
    if not isinstance(error, ResponseError) or isinstance(error, passing):
        return False
    return _PASSING.search(str(error)) is None


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error behind what redis-py raised, if there is one."""
    cause: BaseException | None = error
    seen: set[int] = set()  # an error that is raised for several senders may end up among its own causes
    while cause is not None and not isinstance(cause, ssl.SSLError):
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
        if id(cause) in seen:
            return None
    return cause
