"""Retries Redis commands through an outage, for as long as the client's outage budget lasts."""

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, ConnectionError, TimeoutError

from producer.backoff import Backoff

# OSError: redis-py's retry sees the raw error of a refused connection before it is translated.
TRANSIENT_ERRORS = (ConnectionError, TimeoutError, OSError)
_BACKOFF = Backoff(first_s=0.1, max_s=1.0, jitter=(0.0, 1.0))
_REFUSALS = (AuthenticationError, AuthorizationError)
_TLS_CUT = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)

_Reply = TypeVar("_Reply")


class OutageBudget:
    """How long one client's connections retry in total, counted from the first failure of an outage.

    `outage_s` may be changed at any time. An error that waiting cannot cure, such as a wrong password or an
    untrusted certificate, is not retried.
    """

    def __init__(self, outage_s: float) -> None:
        self.outage_s = outage_s
        self._down_since_s: float | None = None

    def succeeded(self) -> None:
        """End the outage, if there was one."""
        self._down_since_s = None

    def pause_s(self, error: Exception, num_failures: int) -> float:
        """The pause in seconds before the next try; raises `error` if there is none."""
        now_s = time.monotonic()
        if self._down_since_s is None:
            self._down_since_s = now_s
        if now_s - self._down_since_s >= self.outage_s or is_refusal(error):
            raise error
        return _BACKOFF.pause_s(num_failures)


class OutageRetry(Retry):
    """redis-py's retry, bounded by an outage budget instead of a number of tries.

    redis-py nests retries: of commands, of connecting within them, and with Sentinel once more. Only the
    outermost loops here, so that tries do not multiply.
    """

    def __init__(self, outage_budget: OutageBudget) -> None:
        super().__init__(NoBackoff(), 0)
        self._outage_budget = outage_budget
        self._within = False

    def __deepcopy__(self, _: object) -> "OutageRetry":
        # redis-py copies it for each connection; the budget is the client's.
        return OutageRetry(self._outage_budget)

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
        outermost, self._within = not self._within, True
        num_failures = 0
        try:
            while True:
                try:
                    reply = await do()
                except TRANSIENT_ERRORS as error:
                    if is_retryable is not None and not is_retryable(error):
                        raise
                    num_failures += 1
                    await (fail(error, num_failures) if with_failure_count else fail(error))
                    if not outermost:
                        raise
                    await asyncio.sleep(self._outage_budget.pause_s(error, num_failures))
                else:
                    if outermost:
                        self._outage_budget.succeeded()
                    return reply
        finally:
            if outermost:
                self._within = False


def is_refusal(error: BaseException) -> bool:
    """True if the server refused us or its certificate was rejected, so that waiting does not help."""
    tls = tls_error(error)
    return isinstance(error, _REFUSALS) or (tls is not None and not isinstance(tls, _TLS_CUT))


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The TLS error behind what redis-py raised, if there is one."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    return cause
