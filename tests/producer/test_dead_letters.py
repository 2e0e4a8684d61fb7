"""Dead letters: kept with their reason, bounded, tried again or dropped."""

import json
from dataclasses import replace

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hgetall, hincrby, hset
from support.serving import MODEL, producer
from support.serving import worker as serving

from producer import Client, EmbedOptions, QueueLimits
from producer.contract import Failure, Keys, build_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, ResultNotFound
from producer.queue.dead_letters import DeadLetters
from producer.queue.deadlines import LIFE_S
from producer.queue.enqueue import prepare_job, submit
from worker.consumer import leases
from worker.consumer.leases import Leases

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
FAILURE = Failure(code="internal_error", message="a reason")


async def give_up(redis: Redis, *texts: str, failure: Failure = FAILURE) -> str:
    """The id of a job with these texts that was claimed once and buried."""
    prepared = prepare_job(build_request(MODEL, texts, EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    [(claim, _)] = await owner.claim(1, 1 << 30)
    assert await owner.bury(claim, failure, tries=claim.tries)
    return claim.job


async def test_what_is_given_up_is_answered_and_kept(redis: Redis, server: EmbeddedServer) -> None:
    """Its client hears the failure; the letter tells code, tries and texts, and lives for days."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit(["a text", "another"])).job
        await hset(redis, KEYS.job(job), "tries", 3)
        async with serving(server.url):
            with pytest.raises(JobFailed) as failed:
                await client.result(job, timeout_s=10, consume=True)
        assert failed.value.worker_code == "tries_exhausted"
        [letter] = await client.dead_letters()
        assert (letter.job, letter.code, letter.tries) == (job, "tries_exhausted", 3)
        assert (letter.num_texts, letter.num_bytes) == (2, 13)
        found, request = await client.dead_letter(job)
        assert "given up after 3 tries that ended without a result" in found.message
        assert "producer dead requeue" in found.message
        assert request is not None
        assert request.texts == ("a text", "another")
    totals = await hgetall(redis, KEYS.totals)
    assert (totals[b"bytes"], totals[b"failed"], totals.get(b"done")) == (b"0", b"1", None)
    for key in (KEYS.dead_letters, KEYS.dead_letter(job), KEYS.dead_request(job)):
        assert 6 * 86_400 < await redis.ttl(key) <= 7 * 86_400


async def test_a_requeued_job_is_as_new(redis: Redis, server: EmbeddedServer) -> None:
    """Its bytes count again, its tries do not, and the result that reported its failure is gone."""
    job = await give_up(redis, "a text")
    async with Client(server.url, model=MODEL) as client:
        assert await client.requeue(job)
        assert not await client.requeue(job)
        assert await client.dead_letters() == []
        assert await hget(redis, KEYS.totals, "bytes") == b"6"
        assert await redis.ttl(KEYS.job(job)) == await redis.ttl(KEYS.request(job)) > LIFE_S
        async with serving(server.url):
            assert (await client.result(job, timeout_s=10)).ok
    left = {KEYS.totals, KEYS.answers, KEYS.askers, KEYS.result(job)}
    assert {key.decode() for key in await redis.keys()} == left
    assert await hget(redis, KEYS.totals, "bytes") == b"%d" % await redis.strlen(KEYS.result(job))


async def test_a_requeued_job_keeps_its_priority(redis: Redis) -> None:
    """A low one stays behind a normal one that came later."""
    prepared = prepare_job(build_request(MODEL, ["low"], EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60, priority="low")
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    [(low, _)] = await owner.claim(1, 1 << 30)
    await owner.bury(low, FAILURE, tries=1)
    assert await DeadLetters(redis, KEYS).requeue(low.job)
    normal = prepare_job(build_request(MODEL, ["normal"], EmbedOptions()))
    await submit(redis, KEYS, normal, limits=QueueLimits(), keep_result_s=60)
    claims = await owner.claim(2, 1 << 30)
    assert [(claim.job, claim.tries) for claim, _ in claims] == [(normal.job, 1), (low.job, 1)]


async def test_a_requeued_job_can_be_claimed_at_once(redis: Redis) -> None:
    """Even a low one that a death had deferred, long after it was enqueued."""
    prepared = prepare_job(build_request(MODEL, ["low"], EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60, priority="low")
    await hincrby(redis, KEYS.job(prepared.job), "enqueued", -600_000)
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    [(claim, _)] = await owner.claim(1, 1 << 30)
    await owner.bury(claim, FAILURE, tries=1)
    assert await DeadLetters(redis, KEYS).requeue(claim.job)
    assert [again.job for again, _ in await owner.claim(1, 1 << 30)] == [claim.job]


async def test_enqueueing_the_same_again_takes_its_letter(redis: Redis, server: EmbeddedServer) -> None:
    """A job is on the queue or among the dead, never both."""
    job = await give_up(redis, "a text")
    await redis.delete(KEYS.result(job))
    async with Client(server.url, model=MODEL) as client:
        assert (await client.submit(["a text"])).job == job
        assert await client.dead_letters() == []
        assert not await client.drop(job)
        with pytest.raises(ResultNotFound, match="no dead letter"):
            await client.dead_letter(job)
    assert not await redis.exists(KEYS.dead_letter(job), KEYS.dead_request(job))


async def test_dead_letters_are_bounded(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and in bytes: the oldest are removed, with all their keys; the newest stays however large."""
    monkeypatch.setattr(leases, "MAX_DEAD", 3)
    monkeypatch.setattr(leases, "MAX_DEAD_BYTES", 100)
    jobs = [await give_up(redis, f"text {n}") for n in range(5)]
    dead = DeadLetters(redis, KEYS)
    assert [letter.job for letter in await dead.list(max_dead_letters=9)] == jobs[:1:-1]
    assert len(await redis.keys(KEYS.dead_letter("*"))) == len(await redis.keys(KEYS.dead_request("*"))) == 3
    large = await give_up(redis, "x" * 200)
    assert [letter.job for letter in await dead.list(max_dead_letters=9)] == [large]


async def test_who_lost_the_lease_buries_nothing(redis: Redis) -> None:
    """The token fences this ending like the others."""
    await submit(
        redis,
        KEYS,
        prepare_job(build_request(MODEL, ["a"], EmbedOptions())),
        limits=QueueLimits(),
        keep_result_s=60,
    )
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    [(claim, _)] = await owner.claim(1, 1 << 30)
    stale = replace(claim, token="b:1:1")
    assert not await owner.bury(stale, FAILURE, tries=1)
    assert await redis.zcard(KEYS.dead_letters) == 0
    assert await redis.get(KEYS.result(claim.job)) is None


async def test_a_job_without_a_request_can_be_buried(redis: Redis) -> None:
    """What was put on the queue by hand, too; it cannot be requeued, only dropped."""
    await redis.zadd(KEYS.pending, {"stray": 1})
    owner = Leases(redis, KEYS, worker="a", lease_s=30)
    [(claim, _)] = await owner.claim(1, 1 << 30)
    assert await owner.bury(claim, FAILURE, tries=1)
    dead = DeadLetters(redis, KEYS)
    assert await dead.request("stray") is None
    assert not await dead.requeue("stray")
    assert await dead.drop("stray")
    left = {KEYS.totals, KEYS.answers, KEYS.result("stray")}
    assert {key.decode() for key in await redis.keys()} == left


async def test_they_are_requeued_and_dropped_by_code(redis: Redis, server: EmbeddedServer) -> None:
    """However many: a few at a time, so that nobody waits for long; others stay."""
    jobs = [f"job {n}" for n in range(700)]
    async with redis.pipeline(transaction=False) as pipe:
        for n, job in enumerate(jobs):
            pipe.hset(KEYS.dead_letter(job), mapping={"code": f"code {n % 2}", "bytes": 1})
            pipe.set(KEYS.dead_request(job), b"")
            pipe.zadd(KEYS.dead_letters, {job: 1e12 + n})
        await pipe.execute()
    await redis.lpush(KEYS.dead_letter("foreign"), "x")  # type: ignore[misc]
    await redis.zadd(KEYS.dead_letters, {"foreign": 1})
    async with Client(server.url, model=MODEL) as client:
        assert await client.requeue_all(code="code 0") == jobs[::2]
        assert await redis.zcard(KEYS.pending) == 350
        assert await client.requeue_all(code="code 0") == []
        assert await client.drop_all(code="code 1") == jobs[1::2]
        assert await client.drop_all() == ["foreign"]
        assert await client.dead_letters() == []
    assert await hget(redis, KEYS.totals, "bytes") == b"350"


async def test_the_command(redis: Redis, server: EmbeddedServer) -> None:
    """list, show, requeue and drop, as tables and as JSON, with statuses that say what was not there."""

    async def dead(*arguments: str) -> tuple[int, str, str]:
        return await producer("dead", *arguments, "--model", MODEL, redis_url=server.url)

    jobs = [await give_up(redis, f"text {n}") for n in range(3)]
    status, output, _ = await dead("list", "--json")
    assert status == 0
    assert [letter["job"] for letter in json.loads(output)] == jobs[::-1]
    status, output, _ = await dead("list")
    assert "internal_error" in output
    status, output, _ = await dead("show", jobs[0], "--json")
    assert (json.loads(output)["texts"], json.loads(output)["message"]) == (["text 0"], "a reason")
    status, output, _ = await dead("show", jobs[0])
    assert "'text 0'" in output
    status, output, errors = await dead("requeue", jobs[0], "never-there")
    assert (status, output) == (1, f"{jobs[0]}: requeued\n")
    assert errors == "never-there: not a dead letter\n"
    assert (await dead("drop", "--all"))[0] == 0
    assert (await dead("list"))[:2] == (0, "no dead letters\n")
    assert (await dead("drop"))[0] == 2
    status, _, errors = await dead("show", jobs[1])
    assert status == 3
    assert "error [result_not_found]" in errors
