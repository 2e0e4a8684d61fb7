"""What a worker loads does not report to its maker: no internet socket, no file, no bars in logs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.no_internet import can_forbid
from support.paths import ROOT
from support.tiny_model import write_tiny_model

RUN = """
import sys, time
sys.path.insert(0, sys.argv[2])
from support.no_internet import forbid_internet
forbid_internet()
from pathlib import Path
from worker.backends import LoadOptions, load_backend
from worker.models.model import read_model
load_backend("onnx", read_model(Path(sys.argv[1])), LoadOptions(num_threads=1)).close()
time.sleep(0.5)  # what reports does so from a thread of its own
"""
on_known_kernels = pytest.mark.skipif(not can_forbid(), reason="needs Linux on x86_64 or aarch64")


def run(program: str, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """In a process with an empty home, whose standard error is no terminal."""
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    places = dict.fromkeys(("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), str(home))
    command = [sys.executable, "-B", "-c", program, *arguments]
    environment = inherited | places | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@on_known_kernels
def test_loading_a_network_opens_no_socket_and_writes_no_file(tmp_path: Path) -> None:
    """ONNX Runtime from 1.29 on would look up a host and write an id into the home directory."""
    home, model = tmp_path / "home", tmp_path / "model"
    home.mkdir()
    model.mkdir()
    write_tiny_model(model)
    done = run(RUN, home, str(model), str(ROOT / "tests"))
    assert done.returncode == 0, done.stderr
    assert [*home.rglob("*")] == []


@on_known_kernels
@pytest.mark.peers
def test_transformers_opens_no_socket_if_the_worker_is_offline(tmp_path: Path) -> None:
    """Neither when it is imported nor when it loads a network; what it needs is in the directory."""
    home, model = tmp_path / "home", tmp_path / "model"
    home.mkdir()
    model.mkdir()
    write_tiny_model(model)
    program = RUN.replace('"onnx"', '"transformers"')
    done = run(program, home, str(model), str(ROOT / "tests"), EMBEDMILL_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    written = [path for path in home.rglob("*") if path.is_file()]
    assert written == []


@on_known_kernels
def test_the_check_above_can_fail() -> None:
    """A process that asks for an internet socket after it was forbidden is killed."""
    program = (
        "import socket\n"
        "from support.no_internet import forbid_internet\n"
        "forbid_internet()\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, check=False)
    assert done.returncode == -31  # SIGSYS


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": None}),
        ({"EMBEDMILL_OFFLINE": "true"}, {"HF_HUB_OFFLINE": "1"}),
        ({"EMBEDMILL_OFFLINE": "0"}, {"HF_HUB_OFFLINE": None}),
        ({"ORT_DISABLE_TELEMETRY": "0"}, {"ORT_DISABLE_TELEMETRY": "0"}),
        ({}, {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}),
    ],
)
def test_the_libraries_are_told_before_they_are_imported(
    tmp_path: Path, variables: dict[str, str], expected: dict[str, str | None]
) -> None:
    """Reports never, unless asked for; the network not if the worker is offline; bars on terminals only."""
    program = "import os, sys, worker; print(*[str(os.environ.get(name)) for name in sys.argv[1:]])"
    done = run(program, tmp_path, *expected, **variables)
    assert done.stdout.split() == [str(value) for value in expected.values()]
