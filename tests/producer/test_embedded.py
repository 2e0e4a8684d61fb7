"""The embedded server and worker are real processes that never outlive their owner."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import psutil
import pytest
import redis
from support.paths import ROOT

from producer.embedded.services import EmbeddedServer, EmbeddedWorker, find_server
from producer.errors import QueueUnavailable, WorkerError

GONE_WITHIN_S = 10.0


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def check_for_ever(child: EmbeddedServer | EmbeddedWorker) -> NoReturn:
    while True:
        child.check()
        time.sleep(0.02)


def put_worker(directory: Path, body: str) -> None:
    """A program that `python -m worker` finds before ours."""
    (directory / "worker").mkdir()
    (directory / "worker" / "__init__.py").touch()
    (directory / "worker" / "__main__.py").write_text(body)


@pytest.fixture
def fake_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes tmp_path the working directory; gives a function that puts a worker there."""
    monkeypatch.chdir(tmp_path)
    return lambda body: put_worker(tmp_path, body)


def test_the_server_is_private_and_keeps_nothing() -> None:
    """It answers on a socket in a 0700 directory, has no TCP port, refuses to evict, writes no file."""
    with EmbeddedServer() as server:
        path = Path(server.url.removeprefix("unix://"))
        with redis.Redis.from_url(server.url) as client:
            client.set("key", "value")
            settings = client.config_get("*")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert (settings["port"], settings["save"], settings["appendonly"]) == ("0", "", "no")
        assert settings["maxmemory-policy"] == "noeviction"
        assert sorted(item.name for item in path.parent.iterdir()) == ["log", "redis.sock"]
        server.check()
    assert not path.parent.exists()


def test_the_server_persists_on_request(tmp_path: Path) -> None:
    """With a data directory, what one server held the next one has."""
    for expected in (None, b"value"):
        with EmbeddedServer(data_dir=tmp_path) as server, redis.Redis.from_url(server.url) as client:
            assert client.get("key") == expected
            client.set("key", "value")


def test_a_server_that_died_is_noticed() -> None:
    """`check` raises once the process is gone."""
    with EmbeddedServer() as server:
        with redis.Redis.from_url(server.url) as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)

        with pytest.raises(QueueUnavailable, match="has ended"):
            check_for_ever(server)


def test_two_servers_do_not_meet() -> None:
    """Each has a socket and data of its own."""
    with EmbeddedServer() as one, EmbeddedServer() as two:
        with redis.Redis.from_url(one.url) as client:
            client.set("key", "value")
        with redis.Redis.from_url(two.url) as client:
            assert client.get("key") is None


def test_a_missing_server_names_the_extra(tmp_path: Path) -> None:
    """Without a server program, on PATH or in a wheel, the error says what to install."""
    program = (
        "import sys\n"
        "from producer.embedded.services import find_server\n"
        "from producer.errors import QueueUnavailable\n"
        "sys.path.clear()\n"
        "try: find_server()\n"
        "except QueueUnavailable as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PATH": str(tmp_path)},
        cwd=str(ROOT),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "embedmill[embedded]" in done.stdout


def test_a_server_on_path_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """redis-server on PATH is taken before the wheel's, and its failure shows its own words."""
    program = tmp_path / "redis-server"
    program.write_text("#!/bin/sh\necho 'bad directive' >&2\nexit 1\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_server() == str(program)
    with pytest.raises(QueueUnavailable, match="bad directive"), EmbeddedServer():
        pass


def test_a_directory_too_long_for_a_socket_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sockets have short paths; the error says which setting to change."""
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with pytest.raises(QueueUnavailable, match="TMPDIR"), EmbeddedServer():
        pass
    assert list(long.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_server_ends_with_its_owner(number: signal.Signals) -> None:
    """However the owner dies, server, watcher and directory are gone within seconds."""
    program = (
        "import signal, time, redis; from producer.embedded.services import EmbeddedServer\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
        "with EmbeddedServer() as server:\n"
        "    client = redis.Redis.from_url(server.url)\n"
        "    print(server.url, client.info('server')['process_id'], flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=str(ROOT),
    ) as owner:
        assert owner.stdout is not None
        url, pid = owner.stdout.readline().split()
        directory = Path(url.removeprefix("unix://")).parent
        watcher = psutil.Process(int(pid)).ppid()
        assert directory.exists()
        owner.send_signal(number)
    wait_for(lambda: not directory.exists())
    wait_for(lambda: not psutil.pid_exists(int(pid)) and not psutil.pid_exists(watcher))


def test_a_program_that_ignores_the_request_is_killed(fake_worker: Callable[[str], None]) -> None:
    """A worker deaf to SIGTERM dies with its owner all the same, after the grace."""
    fake_worker(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(f'worker_ready {os.getpid()}', flush=True)\n"
        "time.sleep(60)\n"
    )
    worker = EmbeddedWorker(redis_url="unix:///nowhere", model="m", grace_s=0.2)
    with worker:
        pid = int(worker.last_lines().split()[-1])
        assert psutil.pid_exists(pid)
    assert not psutil.pid_exists(pid)


def test_the_worker_is_awaited_with_its_settings(fake_worker: Callable[[str], None]) -> None:
    """The worker gets queue and model by its environment, and is entered once it says it is ready."""
    fake_worker(
        "import os, sys, time\n"
        "print(sys.argv[1:], os.environ['EMBEDMILL_REDIS_URL'], os.environ['EMBEDMILL_MODEL'])\n"
        "print('worker_ready: profile x', flush=True)\n"
        "time.sleep(60)\n"
    )
    with EmbeddedWorker(redis_url="unix:///nowhere", model="a/b") as worker:
        assert worker.last_lines() == "['run'] unix:///nowhere a/b\nworker_ready: profile x"
        worker.check()


def test_the_worker_takes_no_port(
    fake_worker: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The port in the environment is that of a worker beside it; our name, left empty, closes NIM's too."""
    monkeypatch.setenv("EMBEDMILL_METRICS_PORT", "8000")
    fake_worker(
        "import os, time\n"
        "print(repr(os.environ['EMBEDMILL_METRICS_PORT']))\n"
        "print('worker_ready', flush=True)\n"
        "time.sleep(60)\n"
    )
    with EmbeddedWorker(redis_url="unix:///nowhere", model="m", grace_s=0.2) as worker:
        assert worker.last_lines() == "''\nworker_ready"


def test_a_worker_that_cannot_start_shows_its_last_lines(fake_worker: Callable[[str], None]) -> None:
    """Its end before readiness is WorkerError with status and last words."""
    fake_worker("import sys; sys.exit('no profile runs here')")
    with (
        pytest.raises(WorkerError, match="status 1:\nno profile runs here"),
        EmbeddedWorker(redis_url="unix:///nowhere", model="m"),
    ):
        pass


def test_a_worker_that_takes_too_long_is_ended(fake_worker: Callable[[str], None]) -> None:
    """Readiness is awaited for a bounded time."""
    fake_worker("import time; print('loading', flush=True); time.sleep(60)")
    with (
        pytest.raises(WorkerError, match="not ready within 1 s"),
        EmbeddedWorker(redis_url="unix:///nowhere", model="m", ready_timeout_s=1),
    ):
        pass


def test_a_worker_that_died_later_is_noticed(fake_worker: Callable[[str], None]) -> None:
    """`check` raises with the worker's status once it is gone."""
    fake_worker("import sys, os; print('worker_ready', flush=True); os._exit(7)")
    with (
        pytest.raises(WorkerError, match="status 7"),
        EmbeddedWorker(redis_url="unix:///nowhere", model="m") as worker,
    ):
        check_for_ever(worker)
