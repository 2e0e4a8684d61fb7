"""A worker process's line to its parent: standard input is one end of a socket, the parent has the other."""

import logging
import os
import signal
import threading
import time
from contextlib import suppress

log = logging.getLogger(__name__)

READY = b"r"
_LINE = 0
_SLACK_S = 10.0  # to hand back what the grace did not finish


def end_with_parent(grace_s: float) -> None:
    """From now on the parent's end, by whatever means, is SIGTERM for us, and after the grace the end."""
    threading.Thread(target=_watch, args=(grace_s,), name="embedmill-parent", daemon=True).start()


def tell_ready() -> None:
    """Let the parent know that we serve."""
    with suppress(OSError):  # it has gone: the watching thread sees it too
        os.write(_LINE, READY)


def _watch(grace_s: float) -> None:
    with suppress(OSError):
        while os.read(_LINE, 1):
            pass
    log.warning("the parent process has gone")
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace_s + _SLACK_S)
    os._exit(1)  # a hung event loop hears no signal
