"""Imports TensorRT (`tensorrt` or `tensorrt_rtx`) and translates its errors into the project's."""

import importlib
import logging
from collections import deque
from typing import Any

import structlog

from producer.errors import BackendError

log = structlog.stdlib.get_logger(__name__)

LIBRARIES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt-rtx"}  #: module -> the extra that installs it


def open_library(name: str) -> Any:
    """The imported module. Raises BackendError if it is not installed or does not load."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise BackendError(
            f"{name} cannot be imported ({error!s:.120}); install embedmill[{LIBRARIES[name]}]"
        ) from error
    # The module raises built-in errors for shared libraries that are missing or built for another CUDA.
    except (OSError, RuntimeError) as error:
        raise BackendError(f"{name} is installed but does not load: {error!s:.200}") from error


def error_logger(library: Any) -> Any:
    """A logger for the library: keeps its last `errors` and forwards all but verbose messages to our log."""
    severity = library.ILogger.Severity
    levels = {
        severity.INTERNAL_ERROR: logging.ERROR,
        severity.ERROR: logging.ERROR,
        severity.WARNING: logging.DEBUG,
        severity.INFO: logging.DEBUG,
    }

    class ErrorLogger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: deque[str] = deque(maxlen=8)

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity)
            if level is None:
                return
            if level == logging.ERROR:
                self.errors.append(message)
            log.log(min(level, logging.INFO), "tensorrt", library=library.__name__, message=message)

    return ErrorLogger()


def create(library: Any, name: str, logger: Any) -> Any:
    """The library's Builder or Runtime. Raises BackendError without a GPU or driver."""
    try:
        created = getattr(library, name)(logger)
    except TypeError:  # how the binding reports a null pointer
        created = None
    if created is None:
        raise BackendError(f"{library.__name__} does not start here: {first_error(logger)}")
    return created


def first_error(logger: Any) -> str:
    """The first error that the library logged, on one line, for the end of an error message."""
    text = " ".join(logger.errors[0].split()) if logger.errors else "no reason was logged"
    return f"{text:.300}"
