"""Cancellation: whatever state a job is in, it is answered once and leaves nothing behind."""

import asyncio

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hgetall
from support.serving import MODEL, producer, worker

from producer import Client
from producer.contract import EmbedOptions, Failure, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import ClientClosed, InvalidOption, JobFailed, ResultTimeout
from producer.queue.cancel import CANCELLED, RunCancelled
from producer.queue.enqueue import prepare_job
from producer.transport.connect import end_tasks
from worker.consumer.leases import JobResult, Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))


def running() -> set[str]:
    """Ids of the jobs that workers in this process run: their tasks are named after them."""
    return {task.get_name() for task in asyncio.all_tasks()}


async def test_a_waiting_job_is_removed_and_answered(redis: Redis, server: EmbeddedServer) -> None:
    """Whoever awaits it hears it at once; a second cancellation finds nothing."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        awaiting = asyncio.create_task(client.result(job, timeout_s=10))
        await asyncio.sleep(0.05)
        assert await client.cancel(job)
        with pytest.raises(JobFailed, match="was cancelled") as failed:
            await awaiting
        assert failed.value.worker_code == "cancelled"
        assert not await client.cancel(job)
        assert not await client.cancel("never-there")
    left = {KEYS.totals, KEYS.answers, KEYS.result(job)}
    assert {key.decode() for key in await redis.keys()} == left
    answer = str(len(CANCELLED)).encode()
    assert await hgetall(redis, KEYS.totals) == {b"bytes": answer, b"cancelled": b"1"}
    assert 0 < await redis.ttl(KEYS.result(job)) <= 60


async def test_a_running_job_is_ended_at_its_worker(redis: Redis, server: EmbeddedServer) -> None:
    """At once, long before its lease would be found lost, and the next job is served."""
    backend = {"delay_s": 0.3, "max_batch_tokens": 512}
    async with worker(server.url, backend=backend, lease_s=60.0), Client(server.url, model=MODEL) as client:
        job = (await client.submit([f"{n} " + "word " * 200 for n in range(300)])).job  # 45 s of work
        for _ in range(200):
            if job in running():
                break
            await asyncio.sleep(0.01)
        assert job in running()
        assert await client.cancel(job)
        for _ in range(100):
            if job not in running():
                break
            await asyncio.sleep(0.02)
        assert job not in running()
        assert (await client.embed(["next"], timeout_s=20)).ok
        with pytest.raises(JobFailed) as failed:
            await client.result(job)
        assert failed.value.worker_code == "cancelled"
        assert await hget(redis, KEYS.totals, "bytes") == b"%d" % len(CANCELLED)


async def test_the_owner_of_a_cancelled_job_writes_nothing(redis: Redis, server: EmbeddedServer) -> None:
    """Not even when the same job was enqueued and claimed again, by the same worker."""
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        [(first, _)] = await owner.claim(1, 1 << 30)
        assert await client.cancel(job)
        answer = await redis.getdel(KEYS.result(job))
        await asyncio.sleep(0.002)
        await client.submit(["a text"])
        [(second, _)] = await owner.claim(1, 1 << 30)
        assert (second.job, second.tries) == (first.job, first.tries)
        assert not await owner.finish(first, JobResult(answer))
        assert not await owner.release(first, burn_try=False)
        assert await owner.finish(second, JobResult(answer))


async def test_a_cancelled_job_can_be_asked_for_again(redis: Redis, server: EmbeddedServer) -> None:
    """At once, and whoever still waited for the first one gets the vectors of the second."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
        assert await client.cancel(job)
        assert not (await client.submit(["a text"])).joined
        async with worker(server.url):
            assert (await client.result(job, timeout_s=10)).ok
        assert (await client.submit(["a text"])).joined


async def test_a_run_is_cancelled_as_a_whole(redis: Redis, server: EmbeddedServer) -> None:
    """Pending and running jobs, and none of other runs; more jobs than one step takes."""
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    async with Client(server.url, model=MODEL, run="mine") as mine, Client(server.url, model=MODEL) as other:
        jobs = [(await mine.submit([f"text {n}"])).job for n in range(600)]
        claimed = await owner.claim(100, 1 << 30)
        assert len(claimed) == 100
        foreign = (await other.submit(["foreign"])).job
        assert await other.cancel_run("mine") == RunCancelled(600, 0)
        assert await other.cancel_run("mine") == RunCancelled(0, 0)
        for job in (jobs[0], jobs[-1]):
            with pytest.raises(JobFailed, match="was cancelled"):
                await mine.result(job)
        assert not await owner.finish(claimed[0][0], JobResult(b""))
    assert await redis.zrange(KEYS.pending, 0, -1) == [foreign.encode()]
    assert await redis.zcard(KEYS.leases) == 0
    assert await hgetall(redis, KEYS.totals) == {
        b"bytes": b"%d" % (7 + 600 * len(CANCELLED)),
        b"cancelled": b"600",
    }
    assert [key async for key in redis.scan_iter(match=f"{KEYS.root}job:*")] == [KEYS.job(foreign).encode()]


async def test_a_job_that_others_want_outlives_the_run(redis: Redis, server: EmbeddedServer) -> None:
    """It ends with the last run that wants it, and never with a run if a caller without one wants it."""
    one, two = (Client(server.url, model=MODEL, run=name) for name in ("one", "two"))
    async with one, two, Client(server.url, model=MODEL) as nobody:
        shared = (await one.submit(["shared"])).job
        assert (await one.submit(["shared"])).joined
        assert (await two.submit(["shared"])).joined
        wanted = (await nobody.submit(["wanted"])).job
        assert (await one.submit(["wanted"])).joined
        await one.submit(["alone"])
        assert await nobody.cancel_run("one") == RunCancelled(1, 2)
        assert await nobody.cancel_run("one") == RunCancelled(0, 0)
        assert await nobody.cancel_run("two") == RunCancelled(1, 0)
        assert await redis.zrange(KEYS.pending, 0, -1) == [wanted.encode()]
        assert not await redis.exists(KEYS.job(shared))


async def test_a_requeued_dead_letter_is_wanted_by_who_requeued_it(
    redis: Redis, server: EmbeddedServer
) -> None:
    """The run that once enqueued it does not cancel it."""
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    async with Client(server.url, model=MODEL, run="mine") as client:
        job = (await client.submit(["a text"])).job
        [(claim, _)] = await owner.claim(1, 1 << 30)
        assert await owner.bury(claim, Failure(code="internal_error", message="broken"), tries=1)
        assert await client.requeue(job)
        assert await client.cancel_run("mine") == RunCancelled(0, 1)
        assert await redis.zcard(KEYS.pending) == 1


@pytest.mark.parametrize("run", ["mine", None])
async def test_leaving_many_batches_early_cancels_what_is_left(
    run: str | None, redis: Redis, server: EmbeddedServer
) -> None:
    """Except what others want: another client, whoever submitted it, another caller of the same client."""
    batches = [[f"text {n}"] for n in range(20)]

    async def leave(client: Client) -> None:
        async def read() -> None:
            async for _ in client.embed_many(batches, max_in_flight=8):
                pass

        task = asyncio.create_task(read())
        for _ in range(500):
            if await redis.zcard(KEYS.pending) == 8:
                break
            await asyncio.sleep(0.01)
        await end_tasks(task)

    mine, other = Client(server.url, model=MODEL, run=run), Client(server.url, model=MODEL)
    async with mine, other:
        await leave(mine)
        assert mine.num_withdrawn == 8
        assert await redis.zcard(KEYS.pending) == 0
        wanted = {(await other.submit(batches[0])).job}
        waiting = [asyncio.create_task(client.embed(batches[n])) for client, n in ((other, 1), (mine, 2))]
        wanted |= {prepare_job(build_request(MODEL, batches[n], EmbedOptions())).job for n in (1, 2)}
        await until_pending(redis, 3)
        await leave(mine)
        assert {job.decode() for job in await redis.zrange(KEYS.pending, 0, -1)} == wanted
        await end_tasks(*waiting)


async def until_pending(redis: Redis, num_jobs: int) -> None:
    """Wait until the queue has so many pending jobs; fails if it does not come to that."""
    for _ in range(500):
        if await redis.zcard(KEYS.pending) == num_jobs:
            return
        await asyncio.sleep(0.01)
    assert await redis.zcard(KEYS.pending) == num_jobs


async def test_a_call_that_is_cancelled_leaves_no_job(redis: Redis, server: EmbeddedServer) -> None:
    """Unless another caller of the same client awaits the same texts, or has submitted them."""
    async with Client(server.url, model=MODEL) as client:
        one, two = (asyncio.create_task(client.embed(["text"])) for _ in range(2))
        await until_pending(redis, 1)
        await end_tasks(one)
        await asyncio.sleep(0.1)
        assert await redis.zcard(KEYS.pending) == 1
        await end_tasks(two)
        await until_pending(redis, 0)
        await client.submit(["text"])
        three = asyncio.create_task(client.embed(["text"]))
        await asyncio.sleep(0.1)
        await end_tasks(three)
        await asyncio.sleep(0.1)
        assert await redis.zcard(KEYS.pending) == 1


async def test_closing_a_client_leaves_no_job_that_a_call_awaits(
    redis: Redis, server: EmbeddedServer
) -> None:
    """Of `embed` and of an `embed_many` that was not read to its end; what was submitted stays."""
    async with Client(server.url, model=MODEL) as client:
        submitted = (await client.submit(["submitted"])).job
        waiting = asyncio.create_task(client.embed(["text"]))
        replies = client.embed_many([[f"{n}"] for n in range(9)], max_in_flight=4)
        reading = asyncio.create_task(anext(replies))
        await until_pending(redis, 6)
    assert await redis.zrange(KEYS.pending, 0, -1) == [submitted.encode()]
    for task in (waiting, reading):
        with pytest.raises(ClientClosed):
            await asyncio.wait_for(task, 10)


async def test_a_call_that_timed_out_cancels_its_job_if_asked(redis: Redis, server: EmbeddedServer) -> None:
    """Else its answer can be fetched later."""
    async with Client(server.url, model=MODEL) as client:
        with pytest.raises(ResultTimeout, match="fetch it later"):
            await client.embed(["kept"], timeout_s=0.05)
        with pytest.raises(ResultTimeout, match="is cancelled, unless others want it"):
            await client.embed(["cancelled"], timeout_s=0.05, cancel_on_timeout=True)
        await until_pending(redis, 1)
        with pytest.raises(ResultTimeout):  # which the first call still wants
            await client.embed(["kept"], timeout_s=0.05, cancel_on_timeout=True)
        await asyncio.sleep(0.1)
        await until_pending(redis, 1)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "a:b", "line\n"])
def test_a_run_has_a_plain_name(name: str) -> None:
    """Anything else is refused before it is sent."""
    with pytest.raises(InvalidOption, match="not a valid name"):
        Client("redis://localhost", model=MODEL, run=name)


async def test_the_command_ends_a_run(redis: Redis, server: EmbeddedServer) -> None:
    """It says how many, and status 1 if there was none."""
    one, two = (Client(server.url, model=MODEL, run=name) for name in ("one", "two"))
    async with one, two:
        await one.submit(["a"])
        await one.submit(["b"])
        await two.submit(["b"])
    command = ("cancel", "--run", "one", "--model", MODEL)
    told = "run one: 1 jobs cancelled, 1 left to others who also want them\n"
    assert await producer(*command, redis_url=server.url) == (0, told, "")
    assert await producer(*command, redis_url=server.url) == (1, "", "run one: no jobs on the queue\n")
    status, _, errors = await producer("cancel", "--model", MODEL, redis_url=server.url)
    assert (status, "give either job ids or --run" in errors) == (2, True)


async def test_the_command(redis: Redis, server: EmbeddedServer) -> None:
    """Job by job, and status 1 if one was not there."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text"])).job
    command = ("cancel", job, "never-there", "--model", MODEL)
    status, output, errors = await producer(*command, redis_url=server.url)
    assert (status, output) == (1, f"{job}: cancelled\n")
    assert errors == "never-there: not on the queue\n"
