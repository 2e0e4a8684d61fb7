"""The jobs of a queue: listed, awaited by their run, purged, also when they are many."""

import asyncio
import os
import pty
import subprocess
import sys
import time
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hincrby, hset
from support.serving import MODEL, worker

from producer import Client, QueueLimits, SyncClient
from producer.contract import EmbedOptions, Failure, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import InvalidOption, JobFailed, ResultTimeout
from producer.queue.enqueue import prepare_job, submit
from producer.queue.listing import QueuedJobs
from producer.queue.paging import pages
from producer.transport.connect import end_tasks
from worker.consumer.leases import Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
FAILURE = Failure(code="internal_error", message="a reason")


async def enqueue(redis: Redis, *texts: str, run: str | None = None, priority: str = "normal") -> str:
    """The id of a job with these texts."""
    job = prepare_job(build_request(MODEL, texts, EmbedOptions()))
    await submit(redis, KEYS, job, limits=QueueLimits(), keep_result_s=60, run=run, priority=priority)
    return job.job


async def test_they_are_listed_as_they_stand(redis: Redis, server: EmbeddedServer) -> None:
    """Who runs them, who wants them, how old they are: first what runs, then what is claimed next."""
    running = await enqueue(redis, "runs", run="mine")
    retrying = await enqueue(redis, "pauses")
    owner = Leases(redis, KEYS, worker="host:7:0123abcd", lease_s=30)
    claims = {claim.job: claim for claim, _ in await owner.claim(2, 1 << 20)}
    assert await owner.release(claims[retrying], pause_s=60, burn_try=True)
    low = await enqueue(redis, "low", priority="low")
    normal = await enqueue(redis, "normal", "of two texts", run="mine")
    assert await enqueue(redis, "normal", "of two texts", run="other") == normal
    high = await enqueue(redis, "high", priority="high")
    await hincrby(redis, KEYS.job(high), "enqueued", -600_000)
    await hincrby(redis, KEYS.job(high), "score", -600_000)
    async with Client(server.url, model=MODEL) as client:
        jobs = await client.jobs()
        assert {one.job for one in jobs[:2]} == {running, retrying}
        assert [one.job for one in jobs[2:]] == [high, normal, low]
        seen = {one.job: one for one in jobs}
        assert (seen[running].state, seen[running].worker) == ("running", "host:7:0123abcd")
        assert (seen[retrying].state, seen[retrying].worker) == ("retrying", None)
        assert seen[retrying].tries == seen[running].tries == 1
        two = seen[normal]
        assert (two.runs, two.num_texts, two.num_bytes) == (("mine", "other"), 2, 18)
        assert [one.priority for one in jobs[2:]] == ["high", "normal", "low"]
        assert 600 <= seen[high].age_s < 660
        assert seen[low].age_s < 60

        async def ids(**wanted: object) -> list[str]:
            return [one.job for one in await client.jobs(**wanted)]  # type: ignore[arg-type]

        assert await ids(state="pending") == [high, normal, low]
        assert await ids(state="running") == [running]
        assert await ids(state="retrying") == [retrying]
        assert await ids(state="dead") == []
        assert await ids(run="mine") == [running, normal]
        assert await ids(priority="low") == [low]
        assert await ids(min_age_s=300) == [high]
        assert await ids(state="pending", max_jobs=2) == [high, normal]
        for wrong in ({"state": "gone"}, {"priority": "urgent"}):
            with pytest.raises(InvalidOption, match="must be one of"):
                await ids(**wrong)


async def test_a_suspect_keeps_its_priority(redis: Redis, server: EmbeddedServer) -> None:
    """Deaths defer it, which makes it no job of low priority."""
    job = await enqueue(redis, "a text")
    await hincrby(redis, KEYS.job(job), "score", 40_000)
    async with Client(server.url, model=MODEL) as client:
        [seen] = await client.jobs(priority="normal")
    assert seen.job == job


async def test_what_is_no_job_stops_nothing(redis: Redis, server: EmbeddedServer) -> None:
    """Foreign entries are listed as far as they can be read."""
    await redis.execute_command("ZADD", KEYS.pending, 1, "a list", 2, "nothing", 3, "words", 4, b"\xff\n")
    await redis.lpush(KEYS.job("a list"), "x")  # type: ignore[misc]
    for field in ("enqueued", "score", "tries", "texts", "token", "run:"):
        await hset(redis, KEYS.job("words"), field, b"\xff")
        await redis.execute_command("HSET", KEYS.root.encode() + b"job:\xff\n", field, "?")
    async with Client(server.url, model=MODEL) as client:
        assert [one.job for one in await client.jobs()] == ["words", "�\n"]
        assert await client.wait_for_run("mine", timeout_s=10) == 0


async def test_a_long_queue_is_read_in_pages(redis: Redis) -> None:
    """Each member once, however many have one score; and no read is long for the server."""
    members = {f"{n}": n // 700 for n in range(5000)}
    await redis.zadd(KEYS.pending, members)
    await redis.config_resetstat()
    sizes: list[int] = []
    found: list[bytes] = []
    async for page in pages(redis, KEYS.pending):
        sizes.append(len(page))
        found += page
    assert max(sizes) <= 256
    assert sorted(map(int, found)) == list(range(5000))
    stats = await redis.info("commandstats")
    assert stats["cmdstat_zrangebyscore"]["calls"] == len(sizes)


async def test_pages_survive_claims(redis: Redis) -> None:
    """What leaves the queue before the place that was reached moves nothing out of sight."""
    await redis.zadd(KEYS.pending, {f"{n}": n for n in range(1000)})
    found: list[bytes] = []
    async for page in pages(redis, KEYS.pending):
        found += page
        await redis.zpopmin(KEYS.pending, 100)
    assert {int(one) for one in found} == set(range(1000))


async def test_the_end_of_a_run_is_awaited(redis: Redis, server: EmbeddedServer) -> None:
    """Of all its jobs, also those that came later; others do not matter."""
    await enqueue(redis, "of another run", run="other")
    for n in range(40):
        await enqueue(redis, f"text {n}", run="mine")
    async with Client(server.url, model=MODEL, run="mine") as client:
        waiting = asyncio.create_task(client.wait_for_run("mine", timeout_s=50))
        with pytest.raises(ResultTimeout, match="run mine still has jobs"):
            await client.wait_for_run("mine", timeout_s=0.1)
        async with worker(server.url):
            assert await waiting == 0
        assert await client.jobs(run="mine") == []
        assert await client.wait_for_run("never-there", timeout_s=5) == 0


async def test_what_a_run_gave_up_is_counted(redis: Redis, server: EmbeddedServer) -> None:
    """Its dead letters, not those of others."""
    for text, run in (("one", "mine"), ("two", "other")):
        await enqueue(redis, text, run=run)
        owner = Leases(redis, KEYS, worker="a", lease_s=30)
        [(claim, _)] = await owner.claim(1, 1 << 20)
        await owner.bury(claim, FAILURE, tries=1)
    async with Client(server.url, model=MODEL) as client:
        assert await client.wait_for_run("mine", timeout_s=5) == 1
        [letter] = await client.jobs(state="dead", run="mine")
        assert (letter.state, letter.runs) == ("dead", ("mine",))


async def test_pending_jobs_are_purged_and_answered(redis: Redis, server: EmbeddedServer) -> None:
    """Each with `cancelled`; what runs goes on."""
    running = await enqueue(redis, "runs")
    [(claim, _)] = await Leases(redis, KEYS, worker="a", lease_s=30).claim(1, 1 << 20)
    async with Client(server.url, model=MODEL) as client:
        jobs = [(await client.submit([f"text {n}"])).job for n in range(600)]
        awaiting = asyncio.create_task(client.result(jobs[-1], timeout_s=10))
        await asyncio.sleep(0)
        purged = await client.purge()
        assert (purged.num_ended, purged.num_left) == (600, 0)
        with pytest.raises(JobFailed) as failed:
            await awaiting
        assert failed.value.worker_code == "cancelled"
        for job in (jobs[0], jobs[300]):
            with pytest.raises(JobFailed, match="cancelled"):
                await client.result(job)
        assert [one.job for one in await client.jobs()] == [running] == [claim.job]
        assert (await client.purge()).num_ended == 0


async def test_a_purged_run_leaves_what_others_want(redis: Redis, server: EmbeddedServer) -> None:
    """As cancelling it does."""
    mine = await enqueue(redis, "mine", run="mine")
    both = await enqueue(redis, "both", run="mine")
    await enqueue(redis, "both", run="other")
    others = await enqueue(redis, "others", run="other")
    async with Client(server.url, model=MODEL) as client:
        purged = await client.purge(run="mine")
        assert (purged.num_ended, purged.num_left) == (1, 1)
        assert {one.job for one in await client.jobs()} == {both, others}
        assert mine not in {both, others}
        with pytest.raises(InvalidOption, match="not a valid name"):
            await client.purge(run="")


def test_the_blocking_client_has_it_all(server: EmbeddedServer) -> None:
    """By the same names."""
    with SyncClient(server.url, model="blocking", run="mine") as client:
        client.submit(["a text"])
        assert [one.runs for one in client.jobs(run="mine")] == [("mine",)]
        client.pause(for_s=60)
        assert client.resume()
        assert client.purge(run="mine").num_ended == 1
        assert client.wait_for_run("mine", timeout_s=5) == 0
        assert list(client.requeue_all(code="none")) == list(client.drop_all()) == []


@pytest.mark.parametrize(("answer", "status", "left"), [(b"n\n", 1, 1), (b"y\n", 0, 0)])
async def test_it_asks_on_a_terminal(
    redis: Redis, server: EmbeddedServer, answer: bytes, status: int, left: int
) -> None:
    """And does nothing without a yes."""
    await enqueue(redis, "a text")
    assert await asyncio.to_thread(_answered, server.url, answer) == status
    assert len(await QueuedJobs(redis, KEYS).pending()) == left


def _answered(url: str, answer: bytes) -> int:
    """The exit status of `producer purge` on a terminal where somebody answers."""
    arguments = [sys.executable, "-m", "producer", "purge", "--model", MODEL, "--redis-url", url]
    ours, theirs = pty.openpty()
    program = subprocess.Popen(arguments, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    os.write(ours, answer)
    _, errors = program.communicate(timeout=30)
    os.close(ours)
    os.close(theirs)
    assert b"purge the pending jobs of queue fake_echo? [y/N]" in errors
    return program.returncode


async def test_listing_holds_up_nobody(redis: Redis, server: EmbeddedServer) -> None:
    """Another client's commands pass between the pages of a long listing."""
    await redis.zadd(KEYS.pending, {f"{n}": n for n in range(20_000)})
    listing = asyncio.create_task(QueuedJobs(redis, KEYS).pending())
    waits: list[float] = []
    async with Redis.from_url(server.url) as other:
        while not listing.done():
            began_s = time.monotonic()
            await other.ping()
            waits.append(time.monotonic() - began_s)
    assert len(_ids(listing)) == 20_000
    await end_tasks(listing)
    assert len(waits) > 10  # of a single read there would be one or two


def _ids(task: "asyncio.Task[list[str]]") -> Sequence[str]:
    return task.result()
