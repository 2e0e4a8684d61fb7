"""Everything that a producer, a worker and an operator do with Redis; the rest is done by `admin`."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest
from redis.asyncio import Redis

from producer import Client, QueueLimits
from producer.contract import EmbedOptions, Failure, Keys, build_request, encode_failure, queue_name
from producer.errors import JobFailed, NoWorker, QueueFull, ResultTimeout
from producer.queue.enqueue import prepare_job, submit
from producer.queue.status import read_queue
from producer.transport.connect import connect
from support.redis_hashes import hset
from support.serving import MODEL, producer, worker
from worker.consumer import leases as lease_limits
from worker.consumer.bisection import NOTHING, Bisection
from worker.consumer.handback import hand_back
from worker.consumer.leases import Claim, JobResult, Leases, NewDeadLetter
from worker.consumer.reconcile import Reconciler
from worker.consumer.starting import announced

FAILURE = Failure(code="internal_error", message="why")
ANSWER = JobResult(encode_failure(FAILURE))
_MANY = 1 << 30


async def enqueue(admin: Redis, keys: Keys, *texts: str, model: str = MODEL, run: str | None = None) -> str:
    """The id of a job with these texts."""
    job = prepare_job(build_request(model, texts, EmbedOptions()))
    await submit(admin, keys, job, limits=QueueLimits(), keep_result_s=60, run=run)
    return job.job


async def give_up(admin: Redis, keys: Keys, *texts: str, **how: Any) -> str:
    """The id of a dead letter with these texts."""
    job = await enqueue(admin, keys, *texts, **how)
    owner = Leases(admin, keys, worker="admin", lease_s=30)
    [claim] = [claim for claim, _ in await owner.claim(1, _MANY)]
    assert claim.job == job
    assert await owner.bury(claim, FAILURE, tries=1)
    return job


async def running(admin: Redis, keys: Keys, *texts: str, **how: Any) -> str:
    """The id of a job with these texts that a worker holds."""
    job = await enqueue(admin, keys, *texts, **how)
    [claim] = [claim for claim, _ in await Leases(admin, keys, worker="admin", lease_s=30).claim(1, _MANY)]
    assert claim.job == job
    return job


async def produce(url: str, admin: Redis, prefix: str) -> None:
    """What clients do while a worker serves the queue, and on a queue that nobody serves."""
    unserved = Keys(queue_name("unserved"), prefix)
    async with Client(url, model=MODEL, prefix=prefix) as client:
        assert (await client.embed(["a text", 7])).vectors.shape == (2, 384)
        assert (await client.embed(["long " * 20_000], EmbedOptions(truncate="END"))).ok
        job = (await client.submit(["kept"])).job
        assert (await client.result(job, timeout_s=10)).ok
        assert (await client.submit(["kept"])).joined
        assert (await client.result(job, consume=True)).ok
        with pytest.raises(JobFailed):
            await client.embed(["a text"], EmbedOptions(dimensions=7))
        batches = [[f"text {n}"] for n in range(20)]
        assert len([reply async for reply in client.embed_many(batches)]) == 20
        assert await client.num_workers() == 1
    nobody = {"model": "unserved", "prefix": prefix, "limits": QueueLimits(max_jobs=2)}
    async with Client(url, run="mine", **nobody) as client:  # type: ignore[arg-type]
        assert await client.cancel((await client.submit(["cancelled"])).job)
        await client.submit(["cancelled"])  # the old answer goes
        assert (await client.cancel_run("mine")).num_ended == 1
        assert await client.cancel(await running(admin, unserved, "held", model="unserved"))
        await client.submit(["one"])
        with pytest.raises(ResultTimeout):
            await client.embed(["two"], timeout_s=0.05, cancel_on_timeout=True)
        await enqueue(admin, unserved, "three")
        with pytest.raises(QueueFull):
            await client.submit(["four"])
        async with Client(url, run="mine", wait_for_worker_s=0.0, **nobody) as impatient:  # type: ignore[arg-type]
            with pytest.raises(NoWorker):
                await impatient.embed(["one"])
        await client.cancel_run("mine")
    await admin.zrem(unserved.pending, *await admin.zrange(unserved.pending, 0, -1))
    given_up = await give_up(admin, unserved, "given up", model="unserved")
    async with Client(url, **nobody) as client:  # type: ignore[arg-type]
        assert (await client.submit(["given up"])).joined  # to its failure
        await admin.unlink(unserved.result(given_up))
        assert not (await client.submit(["given up"])).joined  # it takes the dead letter's place
        await hset(admin, unserved.totals, "bytes", "many")  # foreign: it is counted anew
        await hset(admin, unserved.totals, "cancelled", "many")
        await client.cancel(given_up)
        # What others wrote where a job belongs is no job, and goes.
        other = prepare_job(build_request("unserved", ["five"], EmbedOptions())).job
        await admin.lpush(unserved.job(other), "x")  # type: ignore[misc]
        assert not (await client.submit(["five"])).joined


async def work(url: str, admin: Redis, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What worker processes and their parent do, with every ending of a job."""
    keys = Keys("worked", prefix)
    with announced(url, keys, "starting"):
        await asyncio.sleep(0.1)
    async with connect(url) as redis:
        owner = Leases(redis, keys, worker="one", lease_s=0.2, describe=lambda: b"a record")

        async def claim(*texts: str) -> Claim:
            job = await enqueue(admin, keys, *texts)
            # Others whose leases have ended may come before it.
            [found] = [claim for claim, _ in await owner.claim(20, _MANY) if claim.job == job]
            return found

        assert await owner.finish(await claim("done"), ANSWER)
        assert not await owner.finish(await _lost(admin, keys, await claim("lost")), ANSWER)
        suspect = await claim("suspect " * 10_000)  # too large to come with its claim
        await owner.renew(redis, [suspect])
        assert await owner.mark(suspect, Bisection(), NOTHING)
        letter = NewDeadLetter(job="letter", request=b"x", num_bytes=1, num_texts=1, failure=FAILURE, tries=1)
        assert await owner.finish(suspect, JobResult(ANSWER.payload, letter))
        monkeypatch.setattr(lease_limits, "MAX_DEAD", 1)
        buried = await claim("buried")
        assert await owner.mark(buried, Bisection(), NOTHING)
        assert await owner.bury(buried, FAILURE, tries=1)  # and the oldest letter goes
        assert await owner.release(await claim("paused"), pause_s=0.01, burn_try=True)
        assert await owner.release(await claim("handed back"), burn_try=False)
        await asyncio.sleep(0.05)
        await admin.execute_command("ZADD", keys.pending, 0, "not\nprintable")
        await admin.set(keys.request("not\nprintable"), b"x")
        assert {claim.tries for claim, _ in await owner.claim(2, _MANY)} <= {1, 2}
        await asyncio.sleep(0.3)
        await admin.zadd(keys.workers, {"one": 9e15})
        await owner.claim(1, _MANY)  # leases that have ended go back
        await admin.zadd(keys.workers, {"one": 1.0})
        await asyncio.sleep(0.3)
        await owner.claim(1, _MANY)  # an outage extends them
        owner._claim_failed = True
        await Leases(redis, keys, worker="one", lease_s=30).claim(2, _MANY)
        await owner.claim(2, _MANY)  # strays go back
        await owner.mark(await claim("under test"), Bisection(), NOTHING)
        await hand_back(redis, keys, "one")
        await hset(admin, keys.totals, "bytes", 10_000)
        await Reconciler(keys, "one", interval_s=0)(redis)
        await owner.renew(redis, [])
        assert (await read_queue(redis, keys)).num_workers == 1
        await owner.leave(redis)
    await _serve_from_cache(url, admin, prefix)


async def _lost(admin: Redis, keys: Keys, claim: Claim) -> Claim:
    await hset(admin, keys.job(claim.job), "token", "of another")
    return claim


async def _serve_from_cache(url: str, admin: Redis, prefix: str) -> None:
    """A whole worker, whose vector cache is so small that it turns over."""
    keys = Keys(queue_name(MODEL), prefix)
    settings: dict[str, Any] = {"vector_cache": "redis", "vector_cache_mb": 1, "prefix": prefix}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(worker(url, **settings))
        for _ in range(2):
            job = await enqueue(admin, keys, *(f"text {n}" for n in range(900)))
            while not await admin.unlink(keys.result(job)):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def operate(url: str, admin: Redis, prefix: str, *, may_scan: bool = True) -> None:
    """What `producer status`, `jobs`, `dead` and the other commands for operators do."""
    keys = Keys(queue_name(MODEL), prefix)
    for name in ("shown", "dropped", "requeued"):
        await give_up(admin, keys, name, run="mine")
    async with Client(url, model=MODEL, prefix=prefix) as client:
        letters: Sequence[str] = [letter.job for letter in await client.dead_letters()]
        assert len(letters) == 3
        assert await client.wait_for_run("mine", timeout_s=10) == 3
        assert (await client.dead_letter(letters[0]))[1] is not None
        assert await client.drop(letters[0])
        assert await client.requeue(letters[1])
        assert len(await client.requeue_all(code="internal_error")) == 1
        assert await client.drop_all() == []
        assert len(await client.jobs(run="mine")) == 2
        assert await client.jobs(state="dead") == []
        assert (await client.purge(run="mine")).num_ended == 0
        assert (await client.purge()).num_ended == 2
        await enqueue(admin, keys, "cancelled", run="mine")
        assert (await client.cancel_run("mine")).num_ended == 1
        assert await client.cancel(await enqueue(admin, keys, "cancelled too"))
        assert await client.cancel(await running(admin, keys, "cancelled while it runs"))
        await client.pause(for_s=60)
        assert await client.resume()
        assert await client.num_workers() == 0
    seconds, _ = await admin.time()
    await admin.zadd(keys.workers, {"host:7:newer": (seconds + 60) * 1000})
    await enqueue(admin, keys, "pending")
    one = () if may_scan else ("--model", MODEL)
    status, output, errors = await producer("status", "--prefix", prefix, *one, redis_url=url)
    assert (status, errors) == (0, "")
    assert queue_name(MODEL) in output
