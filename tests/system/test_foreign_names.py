"""Names, codes and messages that others wrote: a terminal acts on none of them, and none becomes a label."""

import re

import pytest
from redis.asyncio import Redis
from rich.console import Console
from support.paths import ROOT
from support.redis_hashes import hset
from support.serving import MODEL, producer, worker

from producer import Client, EmbedOptions, QueueLimits
from producer.contract import (
    FAILURE_CODES,
    OTHER_CODE,
    Failure,
    Keys,
    Request,
    TextFailure,
    WorkerRecord,
    build_request,
    encode_failure,
    encode_record,
    queue_name,
)
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed
from producer.queue.enqueue import prepare_job, submit
from worker.cli.top import Top
from worker.settings import Settings
from worker.telemetry.counters import Counters
from worker.telemetry.events import JobEvent

KEYS = Keys(queue_name(MODEL))
# Clears the screen, sets the title, a C1 sequence, reverses what follows, forges a line.
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\u202e\nworker forged\r"


def record(name: str) -> bytes:
    """A worker's record that is hostile wherever it has words."""
    return encode_record(
        WorkerRecord(
            name=name,
            host=HOSTILE,
            device=HOSTILE,
            model=HOSTILE,
            revision=HOSTILE,
            profile=HOSTILE,
            profile_id=HOSTILE,
            precision=HOSTILE,
            reason=HOSTILE,
            pid=1,
            ready_for_s=1.0,
            jobs_done=0,
            texts_done=0,
            tokens_done=0,
            failures={HOSTILE: 1},
            profiles_failed={HOSTILE: HOSTILE},
        )
    )


async def foreign_worker(redis: Redis, name: str, payload: bytes) -> None:
    """A worker that has just told of itself."""
    seconds, _ = await redis.time()
    await redis.zadd(KEYS.workers, {name: (seconds + 60) * 1000})
    await redis.set(KEYS.worker(name), payload)


async def test_no_command_prints_what_a_terminal_acts_on(redis: Redis, server: EmbeddedServer) -> None:
    """Workers, queues and dead letters as they are listed and shown, and what is said of them."""
    await foreign_worker(redis, f"host{HOSTILE}:7", record(f"host{HOSTILE}:7"))
    await foreign_worker(redis, f"newer{HOSTILE}", b"\x81\xa1v\x02")
    await redis.zadd(Keys(f"queue{HOSTILE}").pending, {"job": 1})
    await redis.zadd(KEYS.dead_letters, {f"job{HOSTILE}": 9e15})
    for field in ("code", "message"):
        await hset(redis, KEYS.dead_letter(f"job{HOSTILE}"), field, HOSTILE)
    one = ("--model", MODEL)
    for command in (
        ("status",),
        ("dead", "list", *one),
        ("dead", "show", f"job{HOSTILE}", *one),
        ("dead", "show", f"none{HOSTILE}", *one),
        ("dead", "drop", f"job{HOSTILE}", *one),
    ):
        status, output, errors = await producer(*command, redis_url=server.url)
        assert re.sub(r"[\n─-╿]", "", output + errors).isprintable(), (command, output, errors)
        assert output + errors
        assert status in (0, 1, 3)
        assert not re.search(r"^\s*worker forged", output + errors, re.MULTILINE)


async def test_worker_top_neither(redis: Redis, server: EmbeddedServer) -> None:
    """The same records and queues, on the screen of the other command."""
    await foreign_worker(redis, f"host{HOSTILE}:7", record(f"host{HOSTILE}:7"))
    await foreign_worker(redis, f"newer{HOSTILE}", b"\x81\xa1v\x02")
    top = Top(server.url, KEYS.prefix)
    async with top.redis:
        await top.read()
    console = Console(width=200)
    with console.capture() as capture:
        console.print(top.screen(expand=False))
    shown = capture.get()
    assert "host" in shown
    assert shown.replace("\n", "").isprintable()


async def test_a_failure_of_others_is_raised_in_one_line(redis: Redis, server: EmbeddedServer) -> None:
    """Whoever prints the exception prints no escape sequence; the code is as it was written."""
    payload = encode_failure(Failure(code=HOSTILE, message=HOSTILE * 1000))
    await redis.set(KEYS.result("job"), payload)
    async with Client(server.url, model=MODEL) as client:
        with pytest.raises(JobFailed) as failed:
            await client.result("job")
    assert str(failed.value).isprintable()
    assert len(str(failed.value)) < 10_000
    assert failed.value.worker_code == HOSTILE


async def test_codes_of_clients_become_no_labels(redis: Redis, server: EmbeddedServer) -> None:
    """A request may say why its client refused a text; what is no code of ours is counted as `other`."""
    texts = ["a text", *[None] * 50]
    mine = build_request(MODEL, texts, EmbedOptions())
    refused = tuple(TextFailure(n, f"code {n}{HOSTILE}", "why") for n in range(1, 51))
    forged = Request(model=mine.model, texts=mine.texts, options=mine.options, refused=refused)
    async with worker(server.url, lease_s=0.3), Client(server.url, model=MODEL) as client:
        job = prepare_job(forged)
        await submit(redis, KEYS, job, limits=QueueLimits(), keep_result_s=60)
        assert len((await client.result(job.job, timeout_s=10)).failures) == 50
        record_key = (await redis.keys(KEYS.worker("*")))[0]
        status = await _until_counted(server.url, record_key)
    assert f"texts failed: {OTHER_CODE} 50" in status


async def _until_counted(url: str, record_key: bytes) -> str:
    for _ in range(20):
        _, output, _ = await producer("status", redis_url=url)
        if "texts failed" in output:
            return output
    raise AssertionError(f"{record_key!r} never tells of failed texts")


def test_every_label_of_a_code_is_one_of_ours() -> None:
    """However many codes come; the sum is what it was."""
    counters = Counters()
    for n in range(1000):
        counters.count_job(
            JobEvent.failed("j", code=f"code{n}", num_texts=2, tries=1, waited_s=0.0),
        )
    counters.count_job(JobEvent.failed("j", code="cancelled", num_texts=3, tries=1, waited_s=0.0))
    assert +counters.jobs == {OTHER_CODE: 1000, "cancelled": 1}
    assert +counters.texts_failed == {OTHER_CODE: 2000, "cancelled": 3}


def test_the_codes_are_those_that_are_explained() -> None:
    """Each has its line in docs/reference/errors.md, and no others do."""
    page = (ROOT / "docs" / "reference" / "errors.md").read_text()
    _, _, tables = page.partition("## Failures of single texts")
    rows = re.findall(r"^\| (`.*?`) \|", tables, re.MULTILINE)
    assert {code for row in rows for code in re.findall(r"`(\w+)`", row)} == FAILURE_CODES


def test_metrics_are_for_this_machine_unless_told_otherwise() -> None:
    """Neither password nor TLS guards the port."""
    assert Settings(model=MODEL).metrics_host == "127.0.0.1"
