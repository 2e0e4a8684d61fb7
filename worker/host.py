"""The parent process of a host: one worker process a device, and what a dead one held handed back at once.

It loads no model and no inference library, so that little can go wrong in it.
"""

import logging
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from queue import Empty, SimpleQueue

from redis.exceptions import RedisError

from producer.connection import connect_blocking
from producer.contract import Keys, queue_name
from selection import choose
from selection.facts import Gpu
from worker.owner import hand_back
from worker.settings import Settings
from worker.slot import Slot
from worker.survey import Survey, survey

log = logging.getLogger(__name__)

Environ = Mapping[str, str]
_WAIT_S = 0.25
_SMALL_PARAMETERS = 25_000_000  #: of the layers: MiniLM has 11 or 21 million, BERT-base 85
_FAST_CAPABILITIES = {(9, 0), (10, 0), (10, 3)}
_CORES_FOR_TWO = 4


def _worker(owner: str) -> list[str]:
    return [sys.executable, "-m", "worker", "run-one", "--owner", owner]


def run_host(
    settings: Settings, environ: Environ, *, command: Callable[[str], Sequence[str]] = _worker
) -> int:
    """Serve on every usable device until a signal; the process's exit status.

    `environ` is what the worker processes get; it must say what `settings` say. `command(owner)` starts one.
    """
    devices = environs(survey(settings), settings, environ)
    log.info("host pid=%d workers=%d", os.getpid(), len(devices))
    keys = Keys(queue_name(settings.name), settings.prefix)
    redis = connect_blocking(settings.redis_url)

    def give_back(owner: str) -> bool:
        try:
            left = hand_back(redis, keys, owner)
        except (RedisError, OSError) as error:  # its leases run out by themselves
            log.warning("not_handed_back name=%s error=%s", owner, error)
            return False
        if left.num_jobs:
            log.warning("handed_back name=%s jobs=%d on_trial=%d", owner, left.num_jobs, left.num_on_trial)
        return left.num_on_trial > 0

    slots = {name: Slot(one, command=command, hand_back=give_back) for name, one in devices.items()}
    with ExitStack() as on_exit:
        on_exit.enter_context(redis)
        if settings.metrics_port is not None:
            from worker.endpoint import endpoint
            from worker.vitals import Vitals

            vitals = Vitals(settings.name, slots, redis_url=settings.redis_url, keys=keys)
            host, port = settings.metrics_host, settings.metrics_port
            on_exit.enter_context(endpoint(vitals, host=host, port=port))
        return keep_all(list(slots.values()))


def environs(seen: Survey, settings: Settings, environ: Environ) -> dict[str, Environ]:
    """The environment of each worker process: one or more for each GPU a profile can use, else one.

    By the device's name in metrics: the GPU's index, `index:n` for its n-th MIG slice, and `/k` behind it for
    the k-th of several on one GPU; `cpu`, or `0` for a GPU without a UUID.
    """
    gpus = []
    for gpu in seen.facts.gpus:
        choice = choose(
            replace(seen.facts, gpus=(gpu,)),
            seen.manifest,
            override=settings.model_profile,
            tags=settings.tags_selector,
            allow_unsafe=settings.manifest_allow_unsafe,
            max_batch_tokens=settings.max_batch_tokens,
            build_engines=settings.build_engines == "missing",
        )
        if gpu.uuid and choice.selected is not None and choice.selected.device != "cpu":
            gpus.append(gpu)
    seen_slices: Counter[int] = Counter()
    named: dict[str, Environ] = {}
    for gpu in gpus:
        name = f"{gpu.index}:{seen_slices[gpu.index]}" if gpu.mig_slice else str(gpu.index)
        seen_slices[gpu.index] += 1
        one = {**environ, "CUDA_VISIBLE_DEVICES": gpu.uuid}
        count = _workers_on(gpu, seen, settings, cores=seen.facts.cpu.num_cores // len(gpus))
        named |= {name: one} if count == 1 else {f"{name}/{k}": one for k in range(1, count + 1)}
    selected = seen.choice.selected
    alone = "0" if selected is not None and selected.device != "cpu" else "cpu"
    return named or {alone: environ}


def _workers_on(gpu: Gpu, seen: Survey, settings: Settings, *, cores: int) -> int:
    """As many as asked, by themselves two where one could not feed the GPU.

    Python's lock lets a process find and hand out about 66,000 texts/s of 160 tokens. Only small networks on
    the largest GPUs are faster (docs/performance.md).
    """
    if settings.workers_per_gpu is not None:
        return settings.workers_per_gpu
    model = seen.manifest.model
    fast = gpu.capability in _FAST_CAPABILITIES and not gpu.mig_slice
    if not fast or cores < _CORES_FOR_TWO or model.layers is None or model.hidden is None:
        return 1
    parameters = (
        model.layers * model.hidden * (4 * model.hidden + 2 * (model.intermediate or 4 * model.hidden))
    )
    if parameters > _SMALL_PARAMETERS:
        return 1
    log.info(
        "two_workers gpu=%d reason=one could not feed it a model this small (EMBEDMILL_WORKERS_PER_GPU)",
        gpu.index,
    )
    return 2


def keep_all(slots: Sequence[Slot]) -> int:
    """Keep all slots running until each has ended; every SIGTERM and SIGINT is passed on as SIGTERM."""
    # Handlers only leave a note: what they interrupt may hold a lock.
    events: SimpleQueue[int | None] = SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: events.put(None))

    def run(slot: Slot) -> None:
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
