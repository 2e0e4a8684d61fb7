"""The state of queues and workers, as the API and the command show it."""

import asyncio
import json

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, producer, worker

from producer import Client, EmbedOptions
from producer.contract import Keys, decode_record, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, PayloadError
from producer.queue.status import read_status
from selection import with_failure
from worker.settings import Settings
from worker.startup.survey import survey
from worker.telemetry.counters import Counters
from worker.telemetry.events import JobEvent
from worker.telemetry.worker_info import WorkerInfo

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


async def test_a_worker_tells_what_it_is_and_has_done(redis: Redis, server: EmbeddedServer) -> None:
    """Device, profile, counts by outcome; and nothing once it has left."""
    async with worker(server.url, lease_s=0.6), Client(server.url, model=MODEL) as client:
        await client.embed(["a text", 7])
        with pytest.raises(JobFailed):
            await client.embed(["a text"], EmbedOptions(dimensions=7))
        await asyncio.sleep(0.8)  # several signs of life
        [queue] = await read_status(redis, "embedmill")
        [seen] = queue.workers
        assert 0 < await redis.pttl(KEYS.worker(seen.name)) <= 2400
    assert (queue.queue, queue.pending, queue.running, queue.done) == ("fake_echo", 0, 0, 2)
    assert (seen.model, seen.device, seen.profile, seen.precision) == (MODEL, "cpu", "fake", "fp32")
    assert (seen.jobs_done, seen.texts_done, seen.tokens_done) == (2, 1, 4)
    assert seen.failures == {"not_a_string": 1, "invalid_option": 1}
    assert 0 < seen.ready_for_s < 60
    assert str(seen.pid) in seen.name
    [queue] = await read_status(redis, "embedmill")
    assert queue.workers == ()
    assert not await redis.keys(KEYS.worker("*"))


def test_a_profile_that_failed_stands_in_the_record() -> None:
    """With its reason, so that a fleet's bad machines are found."""
    choice = survey(Settings(model="all-MiniLM-L6-v2", cpu_only=True)).choice
    assert choice.selected is not None
    failed = choice.selected
    choice = with_failure(choice, failed.id, "its vectors are off")
    counters = Counters()
    info = WorkerInfo(name="w", model="m", revision="r", profile=failed, choice=choice, counters=counters)
    counters.count_job(
        JobEvent(
            job="j",
            num_texts=3,
            failures={"text_too_long": 1},
            num_truncated=0,
            num_tokens=9,
            waited_s=0.0,
            seconds=0.1,
            code="ok",
        )
    )
    told = decode_record(info.encoded())
    assert told.profiles_failed == {failed.name: "its vectors are off"}
    assert (told.texts_done, told.failures) == (2, {"text_too_long": 1})


async def test_queues_are_told_apart(redis: Redis, server: EmbeddedServer) -> None:
    """Each with its pending jobs; other prefixes, even those that look like patterns, are not ours."""
    async with Client(server.url, model="one") as one, Client(server.url, model="two", prefix="a*") as two:
        await one.submit(["a text"])
        await one.submit(["another"])
        await two.submit(["a text"])
    [first] = await read_status(redis, "embedmill")
    assert (first.queue, first.pending, first.num_bytes, first.dead) == ("one", 2, 13, 0)
    assert first.next_age_s is not None
    assert 0 <= first.next_age_s < 30
    assert [queue.queue for queue in await read_status(redis, "a*")] == ["two"]
    assert await read_status(redis, "a") == await read_status(redis, "*") == ()


async def test_the_command(redis: Redis, server: EmbeddedServer) -> None:
    """As a table for people and as JSON for programs."""
    assert await producer("status", redis_url=server.url) == (0, "no queues under embedmill:\n", "")
    async with worker(server.url, lease_s=0.9), Client(server.url, model=MODEL) as client:
        await client.embed(["a text"])
        await asyncio.sleep(1.2)
        status, output, _ = await producer("status", "--json", redis_url=server.url)
        [queue] = json.loads(output)
        assert (status, queue["queue"], queue["done"]) == (0, "fake_echo", 1)
        assert queue["workers"][0]["texts_done"] == 1
        status, output, _ = await producer("status", redis_url=server.url)
    assert status == 0
    assert "fake_echo" in output
    assert "done: 1 jobs, 1 texts, 4 tokens" in output
    seen = queue["workers"][0]
    assert f"worker {seen['host']}:{seen['pid']}\n" in output  # as `worker top` names it


async def test_a_worker_of_another_version_is_named(redis: Redis, server: EmbeddedServer) -> None:
    """With the reason; everything else is shown as always, also for programs."""
    async with worker(server.url, lease_s=0.9), Client(server.url, model=MODEL) as client:
        await client.embed(["a text"])
        # A job may be done before the worker's first sign of life.
        while not await redis.keys(KEYS.worker("*")):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        seconds, _ = await redis.time()
        await redis.zadd(KEYS.workers, {"host:7:newer": (seconds + 60) * 1000})
        await redis.set(KEYS.worker("host:7:newer"), b"\x81\xa1v\x02")
        [queue] = await read_status(redis, "embedmill")
        assert len(queue.workers) == 1
        assert list(queue.unread_workers) == ["host:7:newer"]
        status, output, errors = await producer("status", redis_url=server.url)
        told = json.loads((await producer("status", "--json", redis_url=server.url))[1])
    assert (status, errors) == (0, "")
    assert "worker host:7:newer\n  its record cannot be read: the payload has version 2" in output
    assert "on cpu, fp32" in output
    assert "this side speaks 1" in told[0]["unread_workers"]["host:7:newer"]


@pytest.mark.parametrize("payload", [b"", b"\x81\xa1v\x01", b"\xc1", b"\x81\xa1v\x09"])
def test_a_foreign_record_is_refused(payload: bytes) -> None:
    """As every payload that is not one of ours."""
    with pytest.raises(PayloadError):
        decode_record(payload)
