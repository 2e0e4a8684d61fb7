"""A first boot without a hub waits for it and says so once, instead of ending to be restarted for ever."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.hub import hub
from support.tiny_model import write_tiny_model

PROGRAM = (
    "from worker.cli.entry import errors_as_exit_codes, settings_from\n"
    "from worker.startup.boot import boot\n"
    "import sys\n"
    "with errors_as_exit_codes():\n"
    "    boot(settings_from({'model': 'org/tiny'}), waits_for_hub=sys.argv[1] == 'waits').backend.close()\n"
)


def start(cache: Path, port: int, how: str) -> "subprocess.Popen[str]":
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "EMBEDMILL_"))},
        "HF_ENDPOINT": f"http://127.0.0.1:{port}",
        "HF_HUB_DISABLE_XET": "1",
        "EMBEDMILL_CACHE_PATH": str(cache),
        "EMBEDMILL_CPU_ONLY": "1",
        "EMBEDMILL_TAGS_SELECTOR": "type=onnx,precision=fp32",
    }
    command = [sys.executable, "-c", PROGRAM, how]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.mark.slow
def test_a_worker_waits_until_the_hub_answers(tmp_path: Path) -> None:
    """And then serves; the log has one line about it."""
    model = tmp_path / "model"
    model.mkdir()
    write_tiny_model(model)
    port = free_port()
    worker = start(tmp_path / "cache", port, "waits")
    time.sleep(8)
    assert worker.poll() is None, worker.stderr and worker.stderr.read()
    with hub(model, name="org/tiny", port=port):
        _, log = worker.communicate(timeout=50)
    assert worker.returncode == 0, log
    assert log.count("hub_unreachable reason=") == 1
    assert "profile_verified" in log
    assert "%|" not in log, "a progress bar"


def test_a_command_does_not_wait(tmp_path: Path) -> None:
    """It ends with a code of its own, by which a script can tell that a later try may succeed."""
    asked = start(tmp_path / "cache", free_port(), "asks")
    _, log = asked.communicate(timeout=50)
    assert asked.returncode == 1
    assert log.splitlines()[-1].startswith("error [hub_unreachable]: the model was not found; hf:org/tiny: ")
