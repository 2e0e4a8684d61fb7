"""Log lines for people or, one JSON object a line, for machines. Texts are never in them."""

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor

_LIBRARIES = ("arq", "httpx", "httpx2", "huggingface_hub", "filelock")  # of no use below a warning


def configure_logs(level: str, *, jsonl: bool) -> None:
    """Send the events of all loggers to stderr; to be called once, by the process's entry point."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper("iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    last: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    last += [structlog.processors.format_exc_info]
    last += [_first("timestamp", "level", "event"), structlog.processors.JSONRenderer()] if jsonl else [_line]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=last))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for library in _LIBRARIES:
        logging.getLogger(library).setLevel(max(logging.WARNING, logging.getLogger().level))


def _first(*keys: str) -> Processor:
    def order(_: object, __: str, event: EventDict) -> EventDict:
        return {**{key: event[key] for key in keys}, **event}

    return order


_fields = structlog.processors.LogfmtRenderer(bool_as_flag=False)


def _line(_: object, __: str, event: EventDict) -> str:
    """`2026-11-27T09:00:00Z INFO    worker_ready model=m profile=p`, with the traceback of an exception."""
    time, level, name = event.pop("timestamp"), event.pop("level"), event.pop("event")
    event.pop("logger", None)
    trace = event.pop("exception", None)
    fields = _fields(None, "", event)
    line = f"{time} {level.upper():<7} {name}" + (f" {fields}" if fields else "")
    return f"{line}\n{trace}" if trace else line
