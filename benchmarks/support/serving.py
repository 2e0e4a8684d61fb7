"""Runs a worker host under test and measures its CPU time and GPU utilisation."""

import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import redis

from producer.embedded.services import WORKER_READY

_SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Host:
    """A `worker run` that is ready; it logs to the file `log`."""

    process: psutil.Process
    log: Path

    @property
    def workers(self) -> list[psutil.Process]:
        """The worker processes, one per device."""
        children: list[psutil.Process] = self.process.children()
        return children


@contextmanager
def host(env: Mapping[str, str]) -> Iterator[Host]:
    """`worker run` with that environment, from ready until terminated; SystemExit if it exits early."""
    with tempfile.NamedTemporaryFile(suffix=".log") as file:
        log = Path(file.name)
        process = subprocess.Popen([sys.executable, "-m", "worker", "run"], env=dict(env), stderr=file)
        try:
            while WORKER_READY not in log.read_text(encoding="utf-8"):
                if process.poll() is not None:
                    raise SystemExit(log.read_text(encoding="utf-8"))
                time.sleep(0.05)
            yield Host(psutil.Process(process.pid), log)
        finally:
            process.terminate()
            process.wait()


def cpu_s(processes: list[psutil.Process]) -> float:
    """The CPU seconds of the processes so far, including all threads."""
    times = [process.cpu_times() for process in processes]
    return float(sum(one.user + one.system for one in times))


def server_process(url: str) -> psutil.Process:
    """The process that listens on the server's socket."""
    told: Any = redis.Redis.from_url(url).info("server")
    return psutil.Process(told["process_id"])


@contextmanager
def gpu_busy() -> Iterator[list[tuple[float, float]]]:
    """A list filled during the block: times on the monotonic clock, with GPU 0's utilisation, 0 to 1."""
    samples: list[tuple[float, float]] = []
    ended = threading.Event()
    thread = threading.Thread(target=_sample, args=(samples, ended), daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()


def mean_between(samples: list[tuple[float, float]], started_s: float, ended_s: float) -> float | None:
    """The mean of the samples between two times; None if there are none."""
    found = [share for at_s, share in samples if started_s <= at_s <= ended_s]
    return sum(found) / len(found) if found else None


def _sample(samples: list[tuple[float, float]], ended: threading.Event) -> None:
    import pynvml

    with suppress(pynvml.NVMLError):
        pynvml.nvmlInit()
        gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
        while not ended.wait(_SAMPLE_S):
            share = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
            samples.append((time.monotonic(), share))
