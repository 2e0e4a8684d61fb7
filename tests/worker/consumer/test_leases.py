"""Leases against a real server: one owner at a time, one ending, nothing lost, nothing left behind."""

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hget, hgetall, hset

from producer.contract import (
    EmbedOptions,
    Failure,
    Keys,
    build_request,
    decode_request,
    decode_result,
    encode_failure,
)
from producer.errors import InvalidOption, QueueFull
from producer.queue.enqueue import Priority, QueueLimits, prepare_job, submit
from worker.consumer.bisection import NOTHING, Bisection
from worker.consumer.leases import Claim, JobResult, Leases

pytestmark = pytest.mark.every_server

ANSWER = JobResult(encode_failure(Failure(code="test", message="an answer")))
MANY = 1 << 30


def leases(redis: Redis, keys: Keys, worker: str = "a", *, lease_s: float = 30.0) -> Leases:
    return Leases(redis, keys, worker=worker, lease_s=lease_s)


async def enqueue(redis: Redis, keys: Keys, *texts: str, **how: Any) -> str:
    prepared = prepare_job(build_request("m", texts or ("text",), EmbedOptions()))
    limits = how.pop("limits", QueueLimits())
    return (await submit(redis, keys, prepared, limits=limits, keep_result_s=60, **how)).job


async def claim_one(owner: Leases) -> Claim:
    [(claim, payload)] = await owner.claim(1, MANY)
    assert payload is not None
    return claim


async def test_a_finished_job_leaves_its_result_and_nothing_else(redis: Redis, keys: Keys) -> None:
    """The result expires by itself; the counters are back where they were."""
    job = await enqueue(redis, keys)
    owner = leases(redis, keys)
    assert await owner.finish(await claim_one(owner), ANSWER)
    left = {keys.result(job), keys.answers, keys.totals}
    assert {key.decode() for key in await redis.keys()} == left
    assert 0 < await redis.pttl(keys.result(job)) <= 60_000
    assert decode_result(await redis.get(keys.result(job))) == Failure(code="test", message="an answer")
    assert await hgetall(redis, keys.totals) == {b"bytes": b"%d" % len(ANSWER.payload), b"done": b"1"}


async def test_an_equal_job_is_joined_while_queued_running_and_kept(redis: Redis, keys: Keys) -> None:
    """Enqueueing the same content again costs no second embedding."""
    request = build_request("m", ["text"], EmbedOptions())
    job = await enqueue(redis, keys)
    owner = leases(redis, keys)

    async def again() -> tuple[str, bool]:
        got = await submit(redis, keys, prepare_job(request), limits=QueueLimits(), keep_result_s=60)
        return got.job, got.joined

    assert await again() == (job, True)
    claim = await claim_one(owner)
    assert await again() == (job, True)
    await owner.finish(claim, ANSWER)
    assert await again() == (job, True)
    assert await owner.claim(10, MANY) == []
    await redis.delete(keys.result(job))
    assert await again() == (job, False)


async def test_every_claim_has_its_request_however_large(redis: Redis, keys: Keys) -> None:
    """Small ones come with the claim, large ones are fetched; one that is gone is None."""
    texts = {await enqueue(redis, keys, text): text for text in ("a", "b" * 100_000, "c", "d")}
    gone = next(iter(texts))
    await redis.delete(keys.request(gone))
    rows = await leases(redis, keys).claim(10, MANY)
    found = {claim.job: payload and decode_request(payload).texts[0] for claim, payload in rows}
    assert found == {**texts, gone: None}


async def test_a_claim_tells_whether_jobs_are_left(redis: Redis, keys: Keys) -> None:
    """Whether it was limited by jobs or by bytes; a worker that claimed all need not look again."""
    owner = leases(redis, keys)
    for text in ("a", "bb", "cc"):
        await enqueue(redis, keys, text)
    for bounds, more_pending in (
        ((1, MANY), True),
        ((10, 1), True),
        ((10, MANY), False),
        ((10, MANY), False),
    ):
        await owner.claim(*bounds)
        assert owner.more_pending is more_pending


async def test_a_job_has_one_owner(redis: Redis, keys: Keys) -> None:
    """When workers claim at once, each job goes to one of them."""
    for number in range(40):
        await enqueue(redis, keys, f"text {number}")
    rows = await asyncio.gather(*(leases(redis, keys, name).claim(30, MANY) for name in "abc"))
    claimed = [claim.job for row in rows for claim, _ in row]
    assert len(claimed) == len(set(claimed)) == 40


async def test_an_expired_lease_is_claimed_again_and_fenced(redis: Redis, keys: Keys) -> None:
    """The first owner can neither finish, nor release, nor renew what another runs now."""
    job = await enqueue(redis, keys)
    slow, other = leases(redis, keys, "slow", lease_s=0.05), leases(redis, keys, "other")
    lost = await claim_one(slow)
    await asyncio.sleep(0.1)
    claim = await claim_one(other)
    assert (claim.job, claim.tries, claim.bisection) == (job, 1, Bisection())
    assert not await slow.finish(lost, JobResult(b"wrong"))
    assert not await slow.mark(lost, Bisection(), NOTHING)
    assert not await slow.release(lost, burn_try=True)
    assert await redis.get(keys.result(job)) is None
    assert await other.finish(claim, ANSWER)
    assert await redis.get(keys.result(job)) == ANSWER.payload
    assert not await redis.keys(keys.staged("*"))
    assert await hget(redis, keys.totals, "lost_leases") == b"1"


async def test_a_token_is_never_given_twice(redis: Redis, keys: Keys) -> None:
    """Not even to one worker that hands a job back and claims it again within a millisecond."""
    await enqueue(redis, keys)
    owner = leases(redis, keys)
    tokens = []
    for _ in range(200):
        claim = await claim_one(owner)
        assert claim.tries == 1
        tokens.append(claim.token)
        await owner.release(claim, burn_try=False)
    assert len(set(tokens)) == 200


async def test_a_renewed_lease_is_kept(redis: Redis, keys: Keys) -> None:
    """Beyond its first term; a worker learns that it was lost while another worker was heard."""
    await enqueue(redis, keys)
    owner = leases(redis, keys, "a", lease_s=0.2)
    claim = await claim_one(owner)
    other = leases(redis, keys, "b", lease_s=0.2)
    for _ in range(4):
        await asyncio.sleep(0.1)
        assert (await owner.renew(redis, [claim])).lost == set()
    assert await other.claim(1, MANY) == []
    for _ in range(5):
        await asyncio.sleep(0.05)
        await other.renew(redis, [])
    assert len(await other.claim(1, MANY)) == 1
    assert (await owner.renew(redis, [claim])).lost == {claim.job}


@pytest.mark.parametrize("first", ["claim", "renew"])
async def test_after_a_silence_of_all_leases_are_spared(redis: Redis, keys: Keys, first: str) -> None:
    """Redis was away: the first worker back takes nothing; one that does not come back loses its leases."""
    await enqueue(redis, keys)
    owner, other = (leases(redis, keys, name, lease_s=0.2) for name in "ab")
    claim = await claim_one(owner)
    await owner.renew(redis, [claim])
    await asyncio.sleep(0.3)
    if first == "renew":
        await other.renew(redis, [])
    assert await other.claim(1, MANY) == []
    assert (await owner.renew(redis, [claim])).lost == set()
    await asyncio.sleep(0.3)
    assert await other.claim(1, MANY) == []
    for _ in range(10):
        await other.renew(redis, [])
        await asyncio.sleep(0.05)
    [(again, _)] = await other.claim(1, MANY)
    assert (again.tries, again.bisection) == (1, Bisection())
    assert not await owner.finish(claim, ANSWER)
    assert await hget(redis, keys.totals, "lost_leases") == b"1"


async def test_a_released_job_pauses_and_counts_its_try(redis: Redis, keys: Keys) -> None:
    """A failure costs a try and pauses; a hand-back does neither."""
    await enqueue(redis, keys)
    owner = leases(redis, keys)
    assert await owner.release(await claim_one(owner), burn_try=False)
    claim = await claim_one(owner)
    assert claim.tries == 1
    assert await owner.release(claim, pause_s=0.2, burn_try=True)
    assert await owner.claim(1, MANY) == []
    await asyncio.sleep(0.25)
    assert (await claim_one(owner)).tries == 2
    assert await hget(redis, keys.totals, "lost_leases") is None


async def test_claims_are_bounded_by_bytes_but_never_empty(redis: Redis, keys: Keys) -> None:
    """A large job is claimed alone rather than never."""
    for number in range(3):
        await enqueue(redis, keys, f"{number}" * 1000)
    owner = leases(redis, keys)
    assert len(await owner.claim(10, 2500)) == 2
    assert len(await owner.claim(10, 0)) == 1
    assert await hget(redis, keys.totals, "bytes") == b"3000"


async def test_a_full_worker_takes_urgent_jobs_past_others(redis: Redis, keys: Keys) -> None:
    """Small ones, and those of high priority however large; no suspect, which would have to run alone."""
    large, small, suspect = [await enqueue(redis, keys, text) for text in ("a" * 1000, "b", "c")]
    await hset(redis, keys.job(suspect), "bisection", "")
    owner = leases(redis, keys)
    [(claim, _)] = await owner.claim(10, MANY, small_bytes=100)
    assert claim.job == small
    assert await owner.claim(10, MANY, small_bytes=100) == []
    urgent = await enqueue(redis, keys, "d" * 1000, priority=Priority.HIGH)
    others = {await enqueue(redis, keys, text) for text in "ef"}
    assert [one.job for one, _ in await owner.claim(10, 100, small_bytes=100)] == [urgent]
    [(claim, _)] = await owner.claim(1, 100, small_bytes=100)
    assert claim.job in others
    assert {one.job for one, _ in await owner.claim(10, MANY)} == {large, suspect, *others} - {claim.job}


async def test_a_full_queue_refuses(redis: Redis, keys: Keys) -> None:
    """By jobs and by bytes, with a hint when to retry; what was refused leaves nothing behind."""
    await enqueue(redis, keys, "a")
    with pytest.raises(QueueFull, match="full") as full:
        await enqueue(redis, keys, "b", limits=QueueLimits(max_jobs=1))
    assert full.value.retry_after_s > 0
    with pytest.raises(QueueFull):
        await enqueue(redis, keys, "b" * 100, limits=QueueLimits(max_bytes=100))
    assert await redis.zcard(keys.pending) == 1
    assert not await redis.keys(keys.staged("*"))


async def test_an_urgent_job_overtakes_and_a_lazy_one_waits(redis: Redis, keys: Keys) -> None:
    """High before normal before low, whatever the order of arrival."""
    jobs = {name: await enqueue(redis, keys, name, priority=name) for name in ("low", "normal", "high")}
    claimed = [claim.job for claim, _ in await leases(redis, keys).claim(3, MANY)]
    assert claimed == [jobs[Priority.HIGH], jobs[Priority.NORMAL], jobs[Priority.LOW]]
    with pytest.raises(InvalidOption, match="high, normal, low"):
        await enqueue(redis, keys, priority="urgent")


async def test_a_job_put_there_by_hand_is_claimed_without_a_payload(redis: Redis, keys: Keys) -> None:
    """So that a worker can fail it instead of failing at it."""
    await redis.zadd(keys.pending, {"stray": 1})
    owner = leases(redis, keys)
    [(claim, payload)] = await owner.claim(1, MANY)
    assert (claim.job, claim.num_bytes, payload) == ("stray", 0, None)
    assert await owner.finish(claim, ANSWER)
    assert await redis.zcard(keys.pending) == await redis.zcard(keys.leases) == 0
