"""The parent process of a host: one worker process a device, and what a dead one held handed back at once.

It loads no model and no inference library, so that little can go wrong in it.
"""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from queue import Empty, SimpleQueue

import structlog
from redis.exceptions import RedisError

from producer.contract import Keys, queue_name
from producer.transport.connect import connect
from worker.consumer.handback import HandedBack, hand_back
from worker.settings import Settings
from worker.startup.survey import survey
from worker.supervisor.placement import Environ, environs
from worker.supervisor.process import WorkerProcess

log = structlog.stdlib.get_logger(__name__)
_WAIT_S = 0.25


def _worker(owner: str) -> list[str]:
    return [sys.executable, "-m", "worker", "run-one", "--owner", owner]


def run_host(
    settings: Settings, environ: Environ, *, command: Callable[[str], Sequence[str]] = _worker
) -> int:
    """Serve on every usable device until a signal; the process's exit status.

    `environ` is what the worker processes get; it must say what `settings` say. `command(owner)` starts one.
    """
    devices = environs(survey(settings), settings, environ)
    log.info("host", pid=os.getpid(), workers=len(devices))
    keys = Keys(queue_name(settings.name), settings.prefix)

    def give_back(owner: str) -> bool:
        try:
            left = asyncio.run(_hand_back(settings.redis_url, keys, owner))
        except (RedisError, OSError) as error:  # its leases run out by themselves
            log.warning("not_handed_back", name=owner, error=str(error))
            return False
        if left.num_jobs:
            log.warning("handed_back", name=owner, jobs=left.num_jobs, on_trial=left.num_on_trial)
        return left.num_on_trial > 0

    slots = {name: WorkerProcess(one, command=command, hand_back=give_back) for name, one in devices.items()}
    with ExitStack() as on_exit:
        if settings.metrics_port is not None:
            from worker.supervisor.collector import HostCollector
            from worker.supervisor.http_server import endpoint

            vitals = HostCollector(settings.name, slots, redis_url=settings.redis_url, keys=keys)
            host, port = settings.metrics_host, settings.metrics_port
            on_exit.enter_context(endpoint(vitals, host=host, port=port))
        return keep_all(list(slots.values()))


async def _hand_back(url: str, keys: Keys, owner: str) -> HandedBack:
    async with connect(url) as redis:
        return await hand_back(redis, keys, owner)


def keep_all(slots: Sequence[WorkerProcess]) -> int:
    """Keep all slots running until each has ended; every SIGTERM and SIGINT is passed on as SIGTERM."""
    # Handlers only leave a note: what they interrupt may hold a lock.
    events: SimpleQueue[int | None] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: events.put(None))

    def run(slot: WorkerProcess) -> None:
        status = 1
        try:
            status = slot.keep()
        finally:
            events.put(status)

    for slot in slots:
        threading.Thread(target=run, args=(slot,), name="embedmill-slot", daemon=True).start()
    statuses: list[int] = []
    while len(statuses) < len(slots):
        try:
            # A signal that comes just before the wait does not interrupt it, so it has to end by itself.
            event = events.get(timeout=_WAIT_S)
        except Empty:
            continue
        if event is None:
            for slot in slots:
                slot.stop()
        else:
            statuses.append(event if event >= 0 else 128 - event)
    return next(filter(None, statuses), 0)
