"""The one door to TensorRT: `tensorrt` and `tensorrt_rtx` under one interface, imported when asked for."""

import importlib
import logging
from collections import deque
from typing import Any

import structlog

from producer.errors import BackendError

log = structlog.stdlib.get_logger(__name__)

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}  #: module -> the extra that brings it


def open_library(name: str) -> Any:
    """The module. Raises BackendError if it is not installed or does not load."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f"{name} cannot be imported ({error!s:.120}); install embedmill[{LIBRARIES[name]}]"
        ) from error
    # Its loader raises plain errors for shared libraries that are missing or of another CUDA.
    except (OSError, RuntimeError) as error:
        raise BackendError(f"{name} is installed but does not load: {error!s:.200}") from error


def listener(library: Any) -> Any:
    """A logger for the library: its errors are kept as `complaints`, all but chatter goes to our log."""
    severity = library.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.DEBUG,
        severity.INFO: logging.DEBUG,
    }

    class Listener(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.complaints: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:
                return
            if level == logging.ERROR:
                self.complaints.append(message)
            log.log(min(level, logging.INFO), "tensorrt", library=library.__name__, message=message)

    return Listener()


def started(library: Any, name: str, heard: Any) -> Any:
    """The library's Builder or Runtime. Raises BackendError where there is no GPU or driver for it."""
    try:
        made = getattr(library, name)(heard)
    except TypeError:  # what the binding makes of a null pointer
        made = None
    if made is None:
        raise BackendError(f"{library.__name__} does not start here: {complaint(heard)}")
    return made


def complaint(heard: Any) -> str:
    """What the library last complained of, in one line for a sentence of ours."""
    said = " ".join(heard.complaints[0].split()) if heard.complaints else "it gave no reason"
    return f"{said:.300}"
