"""What a caller is told when no worker serves the queue, and when."""

import asyncio
import math
import time
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, producer, worker

from producer import Client, QueueLimits
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import InvalidOption, NoWorker, ResultTimeout
from producer.queue.worker_watch import nearest
from producer.transport.connect import end_tasks
from worker.consumer.starting import announced

pytestmark = pytest.mark.every_server


@pytest.fixture
async def url(redis: Redis, server: EmbeddedServer) -> str:
    """An empty server's address."""
    return server.url


async def test_without_a_worker_the_wait_ends(url: str) -> None:
    """After the time that was set, for whoever waits: for an answer, for one by id, for room."""
    async with Client(url, model="no/such", wait_for_worker_s=1.5, limits=QueueLimits(max_jobs=2)) as client:
        job = (await client.submit(["fetched"])).job
        started_s = time.monotonic()
        calls = (client.embed(["text"]), client.result(job), client.submit(["third"], wait_if_full=True))
        failures = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(failure) for failure in failures] == [NoWorker] * 3, failures
        assert 1.5 <= time.monotonic() - started_s < 10
        assert "no worker serves the model 'no/such'" in str(failures[0])


async def test_the_models_that_are_served_are_named(url: str) -> None:
    """As their workers spell them, and the one that may have been meant."""
    async with worker(url), Client(url, model="Fake/ehco", wait_for_worker_s=0.0) as client:
        with pytest.raises(NoWorker, match=f"prefix embedmill serve: {MODEL}; did you mean {MODEL}\\?"):
            await client.embed(["text"])
    async with Client(url, model=MODEL, wait_for_worker_s=0.0) as client:
        with pytest.raises(NoWorker, match="check the address and the prefix"):
            await client.embed(["text"])


async def test_a_served_queue_is_waited_for(url: str) -> None:
    """A worker that is busy with one job for longer than the grace is a worker."""
    slow = {"delay_s": 2.5}
    async with worker(url, backend=slow), Client(url, model=MODEL, wait_for_worker_s=0.5) as client:
        assert (await client.embed(["text"])).ok


async def test_a_worker_that_is_starting_is_waited_for(url: str, redis: Redis) -> None:
    """However long its model takes to load; once it has gone away again it is not."""
    keys = Keys(queue_name("slow/model"))
    async with Client(url, model="slow/model", wait_for_worker_s=0.5) as client:
        starting = announced(url, keys, "host:1")
        await asyncio.to_thread(starting.__enter__)
        with pytest.raises(ResultTimeout):
            await client.embed(["text"], timeout_s=3)
        assert await client.num_workers() == 0
        assert 0 < await redis.pttl(keys.starting) <= 60_000
        await asyncio.to_thread(starting.__exit__, None, None, None)
        assert not await redis.exists(keys.starting)
        with pytest.raises(NoWorker):
            await client.embed(["text"])


def test_a_worker_starts_without_redis_too(tmp_path: Path) -> None:
    """Announcing it neither waits nor fails."""
    started_s = time.monotonic()
    with announced(f"unix://{tmp_path}/none.sock", Keys("m"), "host:1"):
        pass
    assert time.monotonic() - started_s < 5


async def test_an_answer_that_comes_at_once_asks_for_no_workers(url: str, redis: Redis) -> None:
    """The watch costs nothing unless there is something to wait for."""
    async with worker(url), Client(url, model=MODEL) as client:
        await client.embed(["first"])
        before = await num_looks(redis)
        for n in range(20):
            await client.embed([f"text {n}"])
        assert await num_looks(redis) == before


async def num_looks(redis: Redis) -> int:
    return int((await redis.info("commandstats")).get("cmdstat_zrange", {}).get("calls", 0))


async def test_many_who_wait_ask_together(url: str, redis: Redis) -> None:
    """Fifty callers look at the workers as often as one does."""
    async with Client(url, model=MODEL, wait_for_worker_s=60.0) as client:
        before = await num_looks(redis)
        calls = [asyncio.create_task(client.embed([f"text {n}"])) for n in range(50)]
        await asyncio.sleep(2.5)
        assert await num_looks(redis) - before == 2  # workers, and those that are starting
        await end_tasks(*calls)


@pytest.mark.parametrize("wait_s", [-1.0, math.nan, "60", None, True])
def test_how_long_to_wait_is_a_number_of_seconds(wait_s: object) -> None:
    """Infinity among them."""
    Client(model=MODEL, wait_for_worker_s=math.inf)
    with pytest.raises(InvalidOption, match="wait_for_worker_s must be"):
        Client(model=MODEL, wait_for_worker_s=wait_s)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("all-minilm-l6-v3", "all-MiniLM-L6-v2"),
        ("sentence-transformers/all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
        ("BAAI/bge-m3", None),
    ],
)
def test_the_nearest_name(asked: str, found: str | None) -> None:
    """Owner and case do not count; what is not similar is not guessed."""
    assert nearest(asked, ["all-MiniLM-L6-v2", "intfloat/e5-small-v2"]) == found


async def test_the_command_ends_with_status_3(url: str, tmp_path: Path) -> None:
    """It says which models are served, and cancels its jobs."""
    (tmp_path / "in.txt").write_text("a text\n")
    given = (str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.npy"), "--model", "no/such")
    status, _, errors = await producer("embed", *given, "--wait-for-worker", "0", redis_url=url)
    assert (status, "no worker serves the model 'no/such'" in errors) == (3, True), errors
    assert "1 job cancelled on the queue" in errors


async def test_whoever_is_told_leaves_no_job(url: str, redis: Redis) -> None:
    """It would be run for nobody once a worker comes; what was submitted stays."""
    async with Client(url, model="no/such", wait_for_worker_s=0.0) as client:
        job = (await client.submit(["submitted"])).job
        for call in (client.embed(["a"]), client.result(job), anext(client.embed_many([["b"], ["c"]]))):
            with pytest.raises(NoWorker):
                await call
    assert await redis.zrange(Keys(queue_name("no/such")).pending, 0, -1) == [job.encode()]
