"""Hosts the consumer's loop in an arq Worker, which installs the signal handlers and owns the main task.

Nothing else of arq fits, and no other file uses it. arq's own loop claims jobs one by one, leaves
those of a dead worker locked until their timeout, lets a worker that lost its job write the result, and
unpickles what it finds in Redis; on a signal it cancels its main task, which would strand the jobs of a claim
in flight. arq is in maintenance mode, so replacing it must stay cheap.
"""

from collections.abc import Awaitable, Callable
from signal import Signals

from arq.worker import Worker


class ArqHost:
    """Runs a coroutine as the main task of an arq worker; from its creation on, signals go to `on_signal`.

    Create it in a running event loop. It handles SIGINT and SIGTERM.
    """

    def __init__(self, loop: Callable[[], Awaitable[None]], *, on_signal: Callable[[Signals], None]) -> None:
        self._worker = _HostedWorker(loop, on_signal)

    async def run(self) -> None:
        """Run the coroutine until it returns."""
        await self._worker.async_run()


class _HostedWorker(Worker):
    """Never reads Redis: only the overridden `main` would."""

    def __init__(self, loop: Callable[[], Awaitable[None]], on_signal: Callable[[Signals], None]) -> None:
        self._hosted_loop = loop
        self._on_signal = on_signal
        super().__init__(functions=[_no_function], queue_name="")

    async def main(self) -> None:
        await self._hosted_loop()

    def handle_sig(self, signum: Signals) -> None:
        self._on_signal(Signals(signum))


async def _no_function(ctx: object) -> None:
    """arq requires at least one function; jobs never run through arq."""
