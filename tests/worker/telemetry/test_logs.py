"""Logging as operators and their tools read it: both formats, foreign loggers, and never a text."""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import structlog
from redis.asyncio import Redis
from support.serving import MODEL
from support.worker_process import process

from producer import Client, EmbedOptions
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed
from worker.telemetry.events import JobEvent
from worker.telemetry.log_lines import log_job
from worker.telemetry.logs import configure_logs

log = structlog.stdlib.get_logger("worker.somewhere")

JOB = JobEvent(
    job="f00",
    num_texts=64,
    failures={},
    num_truncated=0,
    num_tokens=8000,
    waited_s=0.25,
    seconds=1.5,
    code="ok",
)
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """The standard library's logging is left as it was found."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before


def test_text_is_a_heading_and_logfmt(capsys: pytest.CaptureFixture[str]) -> None:
    """Time, level, event and fields, in this order; what has spaces is quoted, and one event is one line."""
    configure_logs("INFO", jsonl=False)
    log_job(JOB)
    log.warning("profile_failed", name="p", reason='it said "no"\nand ended', final=True)
    job, failed = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"{TIME} INFO    job id=f00 code=ok texts=64 failed=0 truncated=0 tokens=8000 repeated=0 cached=0 "
        r"tries=1 waited_s=0.25 seconds=1.5",
        job,
    )
    assert re.fullmatch(
        rf'{TIME} WARNING profile_failed name=p reason="it said \\"no\\"\\nand ended" final=true', failed
    )


def test_json_has_typed_fields(capsys: pytest.CaptureFixture[str]) -> None:
    """Numbers stay numbers, numpy's too; each key comes once, the heading first."""
    configure_logs("INFO", jsonl=True)
    log_job(JOB)
    log.info("measured", seconds=np.float32(0.5), texts=np.int64(3), ready=True, gpu=None, path=Path("/a"))
    pairs = [json.loads(line, object_pairs_hook=list) for line in capsys.readouterr().err.splitlines()]
    for event in pairs:
        assert [key for key, _ in event][:3] == ["timestamp", "level", "event"]
        assert len(dict(event)) == len(event)
    job, measured = map(dict, pairs)
    assert (job["level"], job["event"], job["logger"]) == ("info", "job", "worker.telemetry.log_lines")
    assert (job["id"], job["texts"], job["waited_s"], job["seconds"]) == ("f00", 64, 0.25, 1.5)
    assert {key: measured[key] for key in ("seconds", "texts", "ready", "gpu", "path")} == {
        "seconds": 0.5,
        "texts": 3,
        "ready": True,
        "gpu": None,
        "path": "/a",
    }


@pytest.mark.parametrize("jsonl", [False, True])
def test_libraries_log_in_the_same_format(jsonl: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """With the name of their logger; what they say below a warning is left out."""
    configure_logs("INFO", jsonl=jsonl)
    logging.getLogger("arq.worker").info("chatter")
    logging.getLogger("arq.worker").warning("lost\n%s", "connection")
    [line] = capsys.readouterr().err.splitlines()
    if jsonl:
        event = json.loads(line)
        assert (event["event"], event["logger"], event["level"]) == (
            "lost\nconnection",
            "arq.worker",
            "warning",
        )
    else:
        assert re.fullmatch(rf"{TIME} WARNING lost\\nconnection logger=arq\.worker", line)


@pytest.mark.parametrize("logger", [log, logging.getLogger("a.library")])
@pytest.mark.parametrize("jsonl", [False, True])
def test_an_exception_has_its_traceback(
    jsonl: bool, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """In text on the lines after the event, indented, in JSON as one field."""
    configure_logs("INFO", jsonl=jsonl)
    try:
        raise LookupError("nothing there")
    except LookupError:
        logger.exception("job_failed")
    first, *others = capsys.readouterr().err.splitlines()
    trace = (
        json.loads(first)["exception"].splitlines() if jsonl else [line.removeprefix("  ") for line in others]
    )
    assert "job_failed" in first
    assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "LookupError: nothing there")


# Red text, the window's title, a C1 sequence, a mark that reverses what follows; then a forged event.
HOSTILE = "\x1b[31mred\x1b]0;title\x07\x9b2J\u202e\n2026-11-27T09:00:00.0Z ERROR   forged\r"


@pytest.mark.parametrize("logger", [log, logging.getLogger("a.library")])
@pytest.mark.parametrize("jsonl", [False, True])
def test_nothing_foreign_forges_a_line(
    jsonl: bool, logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names, values and messages of exceptions stay in their line, and a terminal acts on none of them."""
    configure_logs("INFO", jsonl=jsonl)
    try:
        raise LookupError(HOSTILE)
    except LookupError:
        logger.exception("an event " + HOSTILE)
    output = capsys.readouterr().err
    assert output.replace("\n", "").isprintable()
    first, *others = output.splitlines()
    assert all(line.startswith("  ") for line in others)
    if jsonl:
        assert json.loads(first)["event"] == "an event " + HOSTILE
        assert HOSTILE in json.loads(first)["exception"]


@pytest.mark.parametrize("value", ["a\\", 'a\\" code=ok b="', HOSTILE, 'plain"'])
def test_no_value_ends_its_quotes(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    """However it is made, one field stays one field."""
    configure_logs("INFO", jsonl=False)
    log.info("job", id=value, code="cancelled")
    [line] = capsys.readouterr().err.splitlines()
    quoted = r'"(?:[^"\\]|\\.)*"'
    assert line.isprintable()
    assert re.fullmatch(rf"{TIME} INFO    job id={quoted} code=cancelled", line)


def test_only_what_is_grave_enough_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """A later configuration counts for loggers that were used before it."""
    configure_logs("DEBUG", jsonl=False)
    log.debug("batch")
    configure_logs("WARNING", jsonl=False)
    log.info("job")
    log.error("job_failed")
    assert [line.split()[1:] for line in capsys.readouterr().err.splitlines()] == [
        ["DEBUG", "batch"],
        ["ERROR", "job_failed"],
    ]


def test_a_closed_stderr_fails_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker whose log reader has gone goes on with its jobs."""
    with (tmp_path / "log").open("w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        configure_logs("INFO", jsonl=False)
    log.info("job")


@pytest.mark.parametrize("jsonl", [False, True])
async def test_no_text_of_a_job_is_logged(
    redis: Redis, server: EmbeddedServer, tmp_path: Path, jsonl: bool
) -> None:
    """Not at DEBUG, not truncated, not of a job that fails; in JSON every line of a worker is an object."""
    path = tmp_path / "log"
    with process(path, server.url, log_level="DEBUG", jsonl_logging=jsonl):
        async with Client(server.url, model=MODEL) as client:
            await client.embed(["zanzibar one", "zanzibar " * 3000, 7], EmbedOptions(truncate="END"))
            with pytest.raises(JobFailed):
                await client.embed(["zanzibar two"], EmbedOptions(dimensions=7))
    lines = path.read_text().splitlines()
    assert "zanzibar" not in path.read_text().lower()
    if jsonl:
        events = [json.loads(line) for line in lines]
        jobs = {event["code"]: event for event in events if event["event"] == "job"}
        assert jobs.keys() == {"ok", "invalid_option"}
        assert (jobs["ok"]["texts"], jobs["ok"]["failed"], jobs["ok"]["truncated"]) == (3, 1, 1)
        assert "batch" in {event["event"] for event in events}
    else:
        assert sum(" job id=" in line for line in lines) == 2
