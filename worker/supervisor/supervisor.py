"""The parent of the worker processes: runs one per device, and hands the jobs of a dead one back at once.

It loads neither a model nor an inference library, so that little can go wrong in it.
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
from producer.transport.url import parse
from worker.consumer.handback import HandedBack, hand_back
from worker.settings import Settings
from worker.startup.survey import survey
from worker.supervisor.placement import Environment, worker_environments
from worker.supervisor.process import WorkerProcess

log = structlog.stdlib.get_logger(__name__)

_POLL_S = 0.25


def _run_one(owner: str) -> list[str]:
    return [sys.executable, "-m", "worker", "run-one", "--owner", owner]


def supervise(
    settings: Settings, environment: Environment, *, command: Callable[[str], Sequence[str]] = _run_one
) -> int:
    """Serve on every usable device until a signal; returns the exit status for this process.

    Worker processes run `command(owner)` in `environment`, which must agree with `settings`. Raises
    SettingsError if the metrics port is taken or the Redis URL is malformed.
    """
    parse(settings.redis_url)  # before anything is loaded
    environments = worker_environments(survey(settings), settings, environment)
    log.info("supervisor_started", pid=os.getpid(), workers=len(environments))
    keys = Keys(queue_name(settings.name), settings.prefix)

    def hand_back_jobs(owner: str) -> bool:
        try:
            returned = asyncio.run(_hand_back(settings.redis_url, keys, owner))
        except (RedisError, OSError) as error:  # the leases will expire by themselves
            log.warning("hand_back_failed", name=owner, error=str(error))
            return False
        if returned.num_jobs:
            log.warning(
                "jobs_handed_back", name=owner, jobs=returned.num_jobs, under_test=returned.num_under_test
            )
        return returned.num_under_test > 0

    processes = {
        device: WorkerProcess(
            variables, command=command, hand_back=hand_back_jobs, silent_s=2 * settings.hang_s
        )
        for device, variables in environments.items()
    }
    with ExitStack() as on_exit:
        if settings.metrics_port is not None:
            from worker.supervisor.collector import SupervisorCollector
            from worker.supervisor.http_server import serve_http

            collector = SupervisorCollector(settings.name, processes, redis_url=settings.redis_url, keys=keys)
            on_exit.enter_context(
                serve_http(collector, host=settings.metrics_host, port=settings.metrics_port)
            )
        return run_all(list(processes.values()))


async def _hand_back(url: str, keys: Keys, owner: str) -> HandedBack:
    async with connect(url) as redis:
        return await hand_back(redis, keys, owner)


def run_all(processes: Sequence[WorkerProcess]) -> int:
    """Run all processes until each has ended, forwarding every SIGTERM and SIGINT as SIGTERM.

    Returns the first failure's status, as a shell would report it, or 0.
    """
    # Handlers only queue an event: the code they interrupt may hold a lock.
    events: SimpleQueue[int | None] = SimpleQueue()  # a process's exit status, or None for a signal
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: events.put(None))

    def run(process: WorkerProcess) -> None:
        status = 1
        try:
            status = process.run()
        finally:
            events.put(status)

    for process in processes:
        threading.Thread(target=run, args=(process,), name="embedmill-worker", daemon=True).start()
    statuses: list[int] = []
    while len(statuses) < len(processes):
        try:
            # A signal that arrives just before the wait does not interrupt it, so the wait has a limit.
            event = events.get(timeout=_POLL_S)
        except Empty:
            continue
        if event is None:
            for process in processes:
                process.stop()
        else:
            statuses.append(event if event >= 0 else 128 - event)
    return next(filter(None, statuses), 0)
