"""The socket between parent and child: our child processes end with whoever started them."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
from support.programs import wait_for

CHILD = (
    "import os, signal, sys, time\n"
    "from worker.telemetry.channel import end_with_parent\n"
    "line = sys.stdin.readline()\n"
    "signal.signal(signal.SIGTERM, signal.SIG_IGN if line.strip() == 'hung' else signal.SIG_DFL)\n"
    "end_with_parent(grace_s=0.2)\n"
    "print(os.getpid(), flush=True)\n"
    "time.sleep(60)\n"
)
PARENT = (
    "import subprocess, sys\n"
    "from worker.telemetry.channel import watched_input\n"
    "with watched_input(sys.argv[2]) as stdin:\n"
    "    subprocess.run([sys.executable, '-c', sys.argv[1]], stdin=stdin)\n"
)


@pytest.mark.parametrize("state", ["well", "hung"])
def test_a_child_ends_with_its_parent(state: str) -> None:
    """Even when the parent is killed, and even if the child does not hear SIGTERM; never before."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, state], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    with parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        with pytest.raises(psutil.TimeoutExpired):
            child.wait(0.5)
        os.kill(parent.pid, signal.SIGKILL)
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
