"""A job that several ask for: each is answered, on the stricter terms, and never by another of that name."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget
from support.serving import MODEL, worker

from producer import Client, QueueLimits
from producer.contract import EmbedOptions, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobNameTaken, QueueFull, ResultNotFound
from producer.queue.enqueue import prepare_job, submit
from producer.transport.connect import end_tasks
from worker.consumer.leases import Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


@pytest.fixture
async def one(redis: Redis, server: EmbeddedServer) -> AsyncIterator[Client]:
    async with Client(server.url, model=MODEL) as client:
        yield client


@pytest.fixture
async def two(redis: Redis, server: EmbeddedServer) -> AsyncIterator[Client]:
    async with Client(server.url, model=MODEL, keep_result_s=3600) as client:
        yield client


async def until_gone(redis: Redis, job: str) -> None:
    async with asyncio.timeout(5):
        while await redis.exists(KEYS.result(job)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_consumed_answer_is_left_to_who_joined(
    one: Client, two: Client, redis: Redis, server: EmbeddedServer
) -> None:
    """Though the one who enqueued it consumes it; it goes once all have."""
    async with worker(server.url, backend={"delay_s": 0.3}):
        embedding = asyncio.create_task(one.embed(["same"]))
        await asyncio.sleep(0.1)
        joined = await two.submit(["same"])
        assert joined.joined
        assert (await embedding).ok
        await asyncio.sleep(0.1)
        assert (await two.result(joined.job, timeout_s=3)).ok
        assert (await two.result(joined.job, consume=True)).ok
        await until_gone(redis, joined.job)
    assert await redis.exists(KEYS.answers, KEYS.askers) == 0
    assert await hget(redis, KEYS.totals, "bytes") == b"0"


async def test_an_answer_joined_while_it_is_kept_is_left_too(
    one: Client, two: Client, redis: Redis, server: EmbeddedServer
) -> None:
    """Consumption needs as many calls as have asked."""
    async with worker(server.url):
        job = (await one.submit(["kept"])).job
        assert (await one.result(job)).ok
        assert (await two.submit(["kept"])).joined
        assert (await one.result(job, consume=True)).ok
        await one.embed(["another"])
        assert (await two.result(job, consume=True)).ok
        await until_gone(redis, job)
        with pytest.raises(ResultNotFound):
            await two.result(job)


async def test_answers_that_are_read_together_are_consumed_together(
    one: Client, redis: Redis, server: EmbeddedServer
) -> None:
    """Equal ones among them, each as often as it was asked for."""
    async with worker(server.url):
        replies = await asyncio.gather(*(one.embed([f"text {n % 20}"]) for n in range(60)))
        assert all(reply.ok for reply in replies)
        async with asyncio.timeout(5):
            while await hget(redis, KEYS.totals, "bytes") != b"0":  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert await redis.keys(KEYS.result("*")) == []


async def test_an_urgent_join_moves_the_job_forward(one: Client, two: Client, redis: Redis) -> None:
    """By as much as a new job of that priority would be; a less urgent one does not move it back."""
    job = (await one.submit(["low"], priority="low")).job
    await one.submit(["normal"])
    low = float(await redis.zscore(KEYS.pending, job) or 0)
    await two.submit(["low"], priority="high")
    high = float(await redis.zscore(KEYS.pending, job) or 0)
    assert low - high >= 7_190_000
    await two.submit(["low"], priority="low")
    assert await redis.zscore(KEYS.pending, job) == high
    [(claim, _)] = await Leases(redis, KEYS, worker="w", lease_s=30).claim(1, 1 << 30)
    assert claim.job == job


async def test_an_urgent_join_counts_when_a_running_job_comes_back(
    one: Client, two: Client, redis: Redis
) -> None:
    """It is not pending, and does not become so."""
    job = (await one.submit(["low"], priority="low")).job
    owner = Leases(redis, KEYS, worker="w", lease_s=30)
    [(claim, _)] = await owner.claim(1, 1 << 30)
    await two.submit(["low"], priority="high")
    assert await redis.zcard(KEYS.pending) == 0
    await one.submit(["normal"])
    await owner.release(claim, burn_try=False)
    [(again, _)] = await owner.claim(1, 1 << 30)
    assert again.job == job


async def test_an_answer_is_kept_for_as_long_as_the_longest_asked(
    redis: Redis, server: EmbeddedServer
) -> None:
    """Asked for before it is there, or after."""
    short, long = (Client(server.url, model=MODEL, keep_result_s=keep_s) for keep_s in (60, 3600))
    async with short, long, worker(server.url, backend={"delay_s": 0.2}):
        before = (await short.submit(["before"])).job
        await long.submit(["before"])
        await short.submit(["before"])
        assert (await short.result(before)).ok
        assert 3500 < await redis.ttl(KEYS.result(before)) <= 3600
        after = (await short.submit(["after"])).job
        assert (await short.result(after)).ok
        assert 50 < await redis.ttl(KEYS.result(after)) <= 60
        assert (await long.submit(["after"])).joined
        assert 3500 < await redis.ttl(KEYS.result(after)) <= 3600


async def test_a_name_in_use_is_not_joined_with_other_texts(
    one: Client, two: Client, redis: Redis, server: EmbeddedServer
) -> None:
    """Nor with other options: while it is pending, running or its answer is kept; the same request joins."""
    assert not (await one.submit(["one"], job="name")).joined
    for texts, options in ((["two", "three"], None), (["one"], {"truncate": "END"})):
        with pytest.raises(JobNameTaken, match="'name' is in use for other texts") as taken:
            await two.submit(texts, options, job="name")
        assert taken.value.code == "job_name_taken"
    async with worker(server.url):
        assert (await one.result("name")).vectors.shape == (1, 384)
        assert (await two.submit(["one"], job="name")).joined
        with pytest.raises(JobNameTaken):
            await two.submit(["two", "three"], job="name")
        for client in (one, two):
            await client.result("name", consume=True)
        await until_gone(redis, "name")
        await two.submit(["two", "three"], job="name")
        assert (await two.result("name")).vectors.shape == (2, 384)


async def test_the_name_of_a_dead_letter_is_in_use(one: Client, redis: Redis) -> None:
    """Else the letter of another job would be lost."""
    await one.submit(["one"], job="name")
    await redis.rename(KEYS.job("name"), KEYS.dead_letter("name"))
    await redis.delete(KEYS.pending)
    with pytest.raises(JobNameTaken):
        await one.submit(["two"], job="name")


async def test_leaving_ends_only_ones_own_ask(redis: Redis, server: EmbeddedServer) -> None:
    """Of two clients that share a run and texts, and of two calls of one client."""
    clients = [Client(server.url, model=MODEL, run="shared") for _ in range(2)]
    async with clients[0], clients[1]:
        calls = [asyncio.create_task(client.embed(["same"])) for client in (*clients, clients[0])]
        await asyncio.sleep(0.2)
        assert await redis.zcard(KEYS.pending) == 1
        await end_tasks(calls[0])
        await asyncio.sleep(0.1)
        assert await redis.zcard(KEYS.pending) == 1
        async with worker(server.url):
            assert all(reply.ok for reply in await asyncio.gather(*calls[1:]))
        calls = [asyncio.create_task(client.embed(["again"])) for client in clients]
        await asyncio.sleep(0.2)
        await end_tasks(*calls)
        async with asyncio.timeout(5):
            while await redis.zcard(KEYS.pending):  # noqa: ASYNC110
                await asyncio.sleep(0.01)


async def test_a_job_withdrawn_and_asked_for_at_once_is_embedded(
    one: Client, redis: Redis, server: EmbeddedServer
) -> None:
    """Whether it was pending or running when its only caller left."""
    async with worker(server.url, backend={"delay_s": 0.05}):
        for n in range(30):
            call = asyncio.create_task(one.embed([f"text {n}"]))
            await asyncio.sleep(0.003 * (n % 10))
            await end_tasks(call)
            assert (await one.embed([f"text {n}"], timeout_s=10)).ok


async def test_joining_a_large_answer_does_not_copy_it(redis: Redis) -> None:
    """The scripts need no memory for it."""
    prepared = prepare_job(build_request(MODEL, ["a"], EmbedOptions()))
    await redis.set(KEYS.result(prepared.job), b"x" * 16_000_000)
    assert (await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)).joined
    memory = await redis.info("memory")
    assert memory.get("used_memory_vm_eval", memory["used_memory_lua"]) < 8_000_000


async def test_unread_answers_count_in_the_limit_of_bytes(redis: Redis, server: EmbeddedServer) -> None:
    """Until they are consumed or expire, which needs no worker."""
    limits = QueueLimits(max_bytes=6_000)
    keeping = Client(server.url, model=MODEL, limits=limits, keep_result_s=1)
    async with keeping, worker(server.url):
        for n in range(3):
            job = (await keeping.submit([f"text {n}"])).job
            await keeping.result(job)
    held = int(await hget(redis, KEYS.totals, "bytes") or 0)
    assert held > 4_500
    async with Client(server.url, model=MODEL, limits=limits) as client:
        with pytest.raises(QueueFull, match="unread answers"):
            await client.submit(["x" * 2_000])
        await asyncio.sleep(1.1)
        assert not (await client.submit(["x" * 2_000])).joined
    assert await hget(redis, KEYS.totals, "bytes") == b"2000"
    assert await redis.exists(KEYS.answers) == 0
