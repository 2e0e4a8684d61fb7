"""Stand-ins of worker processes for the tests of their parent."""

import os
import sys
import time
from collections.abc import Callable

from worker.supervisor.process import WorkerProcess

READY = "import os, signal, sys, time; os.write(0, b'r');"


class Programs:
    """Programs that stand in for worker processes, one after the other; the last one again and again."""

    def __init__(self, *programs: str) -> None:
        self.programs = programs
        self.owners: list[str] = []
        self.handed_back: list[str] = []
        self.under_test = False

    def slot(self) -> WorkerProcess:
        return WorkerProcess(os.environ, command=self._command, hand_back=self._hand_back)

    def _hand_back(self, owner: str) -> bool:
        self.handed_back.append(owner)
        return self.under_test

    def _command(self, owner: str) -> list[str]:
        program = self.programs[min(len(self.owners), len(self.programs) - 1)]
        self.owners.append(owner)
        return [sys.executable, "-c", program]


def wait_for(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
