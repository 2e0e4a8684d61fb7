"""Configures logging: lines of text or JSON objects, on stderr. Texts are never logged."""

import asyncio
import atexit
import json
import logging
import re
import sys
import threading
from typing import Any, TextIO

import msgspec
import numpy as np
import structlog
from structlog.typing import EventDict, Processor

from producer.terminal import escaped

_LIBRARIES = ("arq", "httpx", "httpx2", "huggingface_hub", "filelock")  # below WARNING they are noise


def configure_logs(level: str, *, jsonl: bool) -> None:
    """Send the events of all loggers to stderr; called once, by the process's entry point.

    Text is `timestamp LEVEL event key=value …`, a traceback on the lines after it; JSON is one object a line
    with typed fields. Our own events bypass the standard library's handlers, which cost three times as much:
    every job logs one. Loggers are not cached: it would save about 1 µs an event, but later changes of the
    configuration would not reach them.
    """
    stream = sys.stderr
    writer = _LineWriter(stream)
    heading: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper("iso", utc=True),
    ]
    naming: list[Processor] = [structlog.stdlib.add_logger_name]
    rendering: list[Processor] = [structlog.processors.format_exc_info, _json_line if jsonl else _text_line]
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*heading, *naming],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    minimum = logging.getLogger().level
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, minimum))
    structlog.configure(
        # In text the name of an event says enough; only a library's message needs its logger beside it.
        processors=[*heading, *(naming if jsonl else ()), *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=lambda name="": _StreamLogger(name, writer),
    )


class _LineWriter:
    """Writes whole lines, so that threads do not mix theirs; those of one turn of an event loop in one call.

    Each call lets other threads take the GIL, and the loop logs a line for every job.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._lock = threading.Lock()
        atexit.register(self.flush)

    def write_soon(self, line: str) -> None:
        """Write the line before the event loop of this thread waits again; at once if there is none."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self.write(line)
            return
        with self._lock:
            self._lines.append(line)
            is_first = len(self._lines) == 1
        if is_first:
            loop.call_soon(self.flush)

    def write(self, line: str) -> None:
        """Write the line at once, behind those that wait."""
        with self._lock:
            self._lines.append(line)
        self.flush()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            if not self._lines:
                return
            text = "".join(f"{line}\n" for line in self._lines)
            self._lines.clear()
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):  # stderr is closed or its reader has gone: no reason to fail a job
                pass


class _StreamLogger:
    """Writes rendered events; warnings and errors at once."""

    __slots__ = ("critical", "debug", "error", "info", "msg", "name", "warning")

    def __init__(self, name: str, writer: _LineWriter) -> None:
        self.name = name
        self.debug = self.info = writer.write_soon
        self.msg = self.warning = self.error = self.critical = writer.write


_QUOTED = re.compile(r'[\s"=\\]')
_BACKSLASH_OR_QUOTE = str.maketrans({"\\": "\\\\", '"': '\\"'})


def _logfmt(event: EventDict) -> str:
    """`key=value …`, as structlog's LogfmtRenderer, in a third of its time: every job logs a line.

    A value may be what others wrote: it neither ends its line nor its quotes, nor does a terminal act on it.
    """
    pairs = []
    for key, value in event.items():
        if type(value) is int or type(value) is float:
            pairs.append(f"{key}={value}")
            continue
        text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        if _QUOTED.search(text) or not text.isprintable():
            text = f'"{escaped(text.translate(_BACKSLASH_OR_QUOTE))}"'
        pairs.append(f"{key}={text}")
    return " ".join(pairs)


def _text_line(_: object, __: str, event: EventDict) -> str:
    """`2026-11-27T09:00:00Z INFO    worker_ready model=m profile=p`, with the traceback of an exception."""
    time, level, name = event.pop("timestamp"), event.pop("level"), event.pop("event")
    trace = event.pop("exception", None)
    fields = _logfmt(event)
    line = f"{time} {level.upper():<7} {escaped(str(name).rstrip())}"
    line = f"{line} {fields}" if fields else line
    # Indented, because the message of an exception must not look like an event.
    traced = (f"\n  {escaped(each)}" for each in trace.split("\n")) if trace else ()
    return "".join((line, *traced))


def _json_line(_: object, __: str, event: EventDict) -> str:
    """The event as one JSON object that begins with its timestamp, level and name."""
    first = {key: event.pop(key) for key in ("timestamp", "level", "event")}
    line = msgspec.json.encode({**first, **event}, enc_hook=_plain).decode()
    return line if line.isprintable() else _UNPRINTABLE.sub(_json_escape, line)


# JSON escapes of these only what is below a space: a terminal acts on some of the others too.
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def _json_escape(found: re.Match[str]) -> str:
    """The character, as JSON escapes it if it does not print."""
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def _plain(value: Any) -> Any:
    """Encode what JSON has no type for: NumPy scalars as numbers, all else as text."""
    return value.item() if isinstance(value, np.generic) else str(value)
