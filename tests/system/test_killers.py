"""Texts that kill workers are found, fail alone, and are kept as dead letters; all others get vectors."""

import asyncio
import logging
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from redis.asyncio import Redis
from support.killing_worker import KILLS_DEVICE, KILLS_TOKENIZER, Mortal, token_of
from support.paths import ROOT
from support.redis_hashes import hget, hgetall, hset
from support.serving import MODEL, booted, worker
from support.text_bytes import text_bytes

from producer import Client
from producer.contract import (
    EmbedOptions,
    Failure,
    Keys,
    Reply,
    Truncate,
    build_request,
    decode_result,
    queue_name,
)
from producer.embedded.services import EmbeddedServer
from producer.errors import BackendDead, BackendError, JobFailed
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.transport.connect import connect, end_tasks
from worker.backends.fake import FakeBackend, fake_vectors
from worker.batching.batcher import Batcher
from worker.batching.pace import Pace
from worker.batching.packing import Budget
from worker.batching.runner import Runner
from worker.consumer.bisection import MAX_DEATHS, NOTHING, Bisection, Range
from worker.consumer.handback import hand_back
from worker.consumer.leases import Claim, JobResult, Leases, NewDeadLetter
from worker.jobs.handler import JobHandler, Mark
from worker.jobs.pipeline import RequestPipeline
from worker.serving.app import serve
from worker.serving.handling import served_model
from worker.settings import Settings
from worker.startup.boot import Booted
from worker.supervisor.process import WorkerProcess
from worker.telemetry.activity import Activity
from worker.tokenization.tokenizer import Encoded, Tokenizer
from worker.vector_cache.cache import VectorCache

pytestmark = pytest.mark.every_server

log = logging.getLogger(__name__)
KEYS = Keys(queue_name(MODEL))
PROGRAM = ROOT / "tests" / "support" / "killing_worker.py"


@pytest.fixture(scope="module")
def fake() -> Iterator[Booted]:
    """The model that the workers serve."""
    found = booted(Settings(model=MODEL))
    yield found
    found.backend.close()


def check(fake: Booted, texts: list[str], reply: Reply, *, killers: Collection[int] = ()) -> None:
    """Every text has its own vector, but for the killers."""
    assert {(one.index, one.code) for one in reply.failures} == {(at, "killed_worker") for at in killers}
    expected = fake_vectors(fake.tokenizer.encode(texts, Truncate.END).tokens, fake.model.dim)
    expected[sorted(killers)] = np.nan
    np.testing.assert_allclose(reply.vectors.astype(np.float32), expected, atol=1e-6)


def texts_with(killers: set[int], count: int, word: str = KILLS_DEVICE) -> list[str]:
    return [f"text {at} of many" + (f" and a {word}" if at in killers else "") for at in range(count)]


@asynccontextmanager
async def mortals(url: str, fake: Booted, **settings: Any) -> AsyncIterator[list[BaseException]]:
    """A worker in this process whose device is dead after the word, and its successors; what they died of."""
    deaths: list[BaseException] = []
    chosen = Settings(model=MODEL, redis_url=url, lease_s=0.3, **settings)
    failures = {token_of(fake.tokenizer, KILLS_DEVICE): BackendDead}

    async def live_and_die() -> None:
        while True:
            try:
                await serve(chosen, booted(chosen, failures=failures))
            except BackendDead as error:
                deaths.append(error)

    task = asyncio.create_task(live_and_die())
    try:
        yield deaths
        if task.done():
            task.result()
    finally:
        await end_tasks(task)


async def num_under_test(url: str, owner: str) -> int:
    async with connect(url) as redis:
        return (await hand_back(redis, KEYS, owner)).num_under_test


@contextmanager
def host(url: str, *, parent: bool = True, **settings: object) -> Iterator[list[str]]:
    """A process that kills itself at such texts, and its successors; the names of those that have died."""
    names = {f"EMBEDMILL_{name.upper()}": str(value) for name, value in settings.items()}
    paths = {"PYTHONPATH": f"{ROOT / 'tests'}:{ROOT}"}
    env = {**os.environ, **paths, "EMBEDMILL_REDIS_URL": url, "EMBEDMILL_MODEL": MODEL, **names}
    died: list[str] = []

    def give_back(owner: str) -> bool:
        died.append(owner)
        return asyncio.run(num_under_test(url, owner)) > 0 if parent else True

    slot = WorkerProcess(
        env, command=lambda owner: [sys.executable, str(PROGRAM), owner], hand_back=give_back
    )
    thread = threading.Thread(target=slot.run)
    thread.start()
    try:
        yield died
    finally:
        slot.stop()
        thread.join()


async def test_a_dead_device_is_a_death_too(redis: Redis, server: EmbeddedServer, fake: Booted) -> None:
    """The job is answered but for the text; a job that ran beside it is, too, and nobody is blamed for it."""
    texts = texts_with({2}, 4)
    async with Client(server.url, model=MODEL) as client:
        jobs = [(await client.submit(one)).job for one in (["before"], texts, ["after"])]
        async with mortals(server.url, fake) as deaths:
            replies = [await client.result(job, timeout_s=40) for job in jobs]
        check(fake, ["before"], replies[0])
        check(fake, texts, replies[1], killers={2})
        check(fake, ["after"], replies[2])
        assert len(deaths) == 6  # beside others, all four, two, one, and that one twice more
        [failure] = replies[1].failures
        assert f"dead letter {jobs[1]}-killers" in failure.message
        assert await text_bytes(redis, KEYS) == 0
        [letter] = await client.dead_letters()
        assert (letter.job, letter.num_texts, letter.num_bytes) == (f"{jobs[1]}-killers", 1, len(texts[2]))
        assert (letter.code, letter.tries) == ("killed_worker", 5)


async def test_a_requeued_killer_meets_no_innocent(
    redis: Redis, server: EmbeddedServer, fake: Booted
) -> None:
    """It is alone from its first run on; when it kills again, it is back among the dead under its own id."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit([KILLS_DEVICE])).job
        letter = f"{job}-killers"
        async with mortals(server.url, fake) as deaths:
            assert (await client.result(job, timeout_s=40)).failures[0].code == "killed_worker"
            assert len(deaths) == 4
            assert await client.requeue(letter)
            assert await hget(redis, KEYS.job(letter), "bisection") == b""
            assert (await client.result(letter, timeout_s=40)).failures[0].code == "killed_worker"
            assert len(deaths) == 7
            assert [one.job for one in await client.dead_letters()] == [letter]
            assert await client.drop(letter)
        async with worker(server.url):  # the device can take it now
            await redis.flushall()
            assert (await client.embed([KILLS_DEVICE], timeout_s=10)).ok
    assert await text_bytes(redis, KEYS) == 0


async def test_a_job_that_costs_too_many_workers_is_given_up(
    redis: Redis, server: EmbeddedServer, fake: Booted
) -> None:
    """As a whole, with all its texts, and a sentence that says what to do."""
    async with Client(server.url, model=MODEL) as client:
        job = (await client.submit([KILLS_DEVICE, "another"])).job
        await hset(redis, KEYS.job(job), "bisection", f"{MAX_DEATHS - 1};;;0-2;")
        async with mortals(server.url, fake) as deaths:
            with pytest.raises(JobFailed, match="64 deaths of workers") as failed:
                await client.result(job, timeout_s=40)
        assert failed.value.worker_code == "tries_exhausted"
        assert len(deaths) == 1
        [letter] = await client.dead_letters()
        assert (letter.job, letter.num_texts, letter.tries) == (job, 2, MAX_DEATHS)


async def test_a_death_without_a_mark_blames_nobody(redis: Redis) -> None:
    """However often a job was only held; and a mark counts for one death, whatever comes after."""
    claim = await suspect(redis, "a", "b")
    for _ in range(3):
        claim = await again(redis, claim)
        assert claim.bisection == Bisection()
    bisection = Bisection().over(2)
    assert await owner(redis).mark(claim, bisection, Range(0, 2))
    for _ in range(3):
        claim = await again(redis, claim)
        assert claim.bisection == bisection.died(Range(0, 2))
        assert claim.tries == 1


async def test_a_job_under_bisection_lets_others_pass(redis: Redis) -> None:
    """After a death it is claimed as if it came 10 s later; as one of many suspects it keeps its place."""
    claim = await suspect(redis, "a")
    score = await hget(redis, KEYS.job(claim.job), "score")
    assert await owner(redis).mark(claim, Bisection(), NOTHING)
    claim = await again(redis, claim)
    later = await hget(redis, KEYS.job(claim.job), "score")
    assert score is not None
    assert later is not None
    assert float(later) == float(score) + 10_000
    await redis.zadd(KEYS.leases, {claim.job: 1})
    prepared = prepare_job(build_request(MODEL, ["b"], EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)
    claims = await owner(redis).claim(9, 1 << 20)
    assert [one.job for one, _ in claims] == [prepared.job, claim.job]


async def test_a_worker_that_ends_in_order_blames_nobody(redis: Redis) -> None:
    """Neither SIGTERM, nor a retry, although the job was running alone."""
    claim = await suspect(redis, "a", "b")
    bisection = Bisection().over(2)
    for burn_try in (False, True):
        assert await owner(redis).mark(claim, bisection, Range(0, 2))
        assert await owner(redis).release(claim, burn_try=burn_try)
        [(claim, _)] = await owner(redis).claim(1, 1)
        claim = await again(redis, claim)
        assert claim.bisection == bisection
    assert claim.tries == 2


async def test_a_trial_that_cannot_be_read_begins_anew(redis: Redis) -> None:
    """What others wrote does not end a worker."""
    claim = await suspect(redis, "a")
    await hset(redis, KEYS.job(claim.job), "bisection", b"\xff;")
    assert (await again(redis, claim)).bisection == Bisection()


async def test_no_letter_takes_the_place_of_a_job_on_the_queue(redis: Redis) -> None:
    """An id is on the queue or a dead letter, never both."""
    claim = await suspect(redis, "a")
    letter = NewDeadLetter(
        job="pending",
        request=b"",
        num_bytes=1,
        num_texts=1,
        failure=Failure(code="killed_worker", message="a reason"),
        tries=2,
    )
    await hset(redis, KEYS.job("pending"), "bytes", 1)
    assert await owner(redis).finish(claim, JobResult(b"answer", letter))
    assert await redis.zcard(KEYS.dead_letters) == 0
    assert {key for key in await redis.keys() if b"dead" in key or b"staged" in key} == set()


async def test_what_a_cancelled_job_left_to_the_threads_is_waited_for(fake: Booted) -> None:
    """Nothing is marked while the tokenizer or the device still has texts of another job."""
    seen: list[str] = []

    class Slow(Mortal):
        def encode(self, texts: Sequence[str], truncate: Truncate, *, num_unpooled: int = 0) -> Encoded:
            time.sleep(0.1)
            seen.append(f"tokenised {texts[0]}")
            return super().encode(texts, truncate, num_unpooled=num_unpooled)

    async def mark(claim: Claim, bisection: Bisection, some: Range) -> bool:
        seen.append(f"marked {some}")
        return True

    async with jobs(replace(fake, tokenizer=cast("Tokenizer", Slow(fake.tokenizer))), mark) as run:
        doomed = asyncio.create_task(run(claimed("a"), payload("a")))
        await asyncio.sleep(0.05)
        doomed.cancel()
        assert await run(claimed("b", Bisection()), payload("b")) is not None
    assert seen == ["tokenised a", "marked 0-0", "marked 0-1", "tokenised b", "marked 0-0"]


async def test_who_lost_the_lease_touches_no_text(fake: Booted) -> None:
    """A mark that is refused ends the run: another worker has the job."""
    seen: list[Range] = []

    async def mark(claim: Claim, bisection: Bisection, some: Range) -> bool:
        seen.append(some)
        return len(seen) < 3

    known = Bisection(num_deaths=1, suspects=(Range(0, 1), Range(1, 2)))
    async with jobs(fake, mark) as run:
        assert await run(claimed("a", known), payload("a", "b")) is None
    assert seen == [NOTHING, Range(0, 1), Range(1, 2)]


async def test_the_cache_sees_texts_only_while_they_are_under_test(fake: Booted) -> None:
    """Nothing is looked up before the mark of its range, nor kept after that of the next one."""
    seen: list[str] = []

    class Noting:
        """A store that says when it is used."""

        def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
            seen.append(f"looked up {len(keys)}")
            return [None] * len(keys)

        def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
            seen.append(f"kept {len(keys)}")

        def close(self) -> None:
            """Nothing is held."""

    async def mark(claim: Claim, bisection: Bisection, some: Range) -> bool:
        seen.append(f"marked {some}")
        return True

    known = Bisection(num_deaths=1, suspects=(Range(0, 1), Range(1, 3)))
    cache = VectorCache(Noting(), identity="model", dim=fake.model.dim)
    async with jobs(fake, mark, cache=cache) as run:
        assert await run(claimed("a", known), payload("a", "b", "c")) is not None
    assert seen == [
        *("marked 0-0", "marked 0-1", "looked up 1", "kept 1"),
        *("marked 1-3", "looked up 2", "kept 2", "marked 0-0"),
    ]


async def test_a_trial_answers_every_text_at_its_place(fake: Booted) -> None:
    """Repeated, refused, too long, cut and poisonous ones too, as without a bisection."""
    texts = ["a", None, "word " * 1000, "a", KILLS_DEVICE, "word " * 1000]

    async def mark(claim: Claim, bisection: Bisection, some: Range) -> bool:
        return True

    known = Bisection(num_deaths=1, suspects=(Range(0, 3), Range(3, 6)))
    for truncate in Truncate:
        request = prepare_job(build_request(MODEL, texts, EmbedOptions(truncate=truncate))).payload
        async with jobs(fake, mark, poison=KILLS_DEVICE) as run:
            tried = await run(claimed("a", known), request)
            plain = await run(claimed("a"), request)
        assert tried is not None
        assert plain is not None
        one, other = decode_result(tried.payload), decode_result(plain.payload)
        assert isinstance(one, Reply)
        assert isinstance(other, Reply)
        np.testing.assert_array_equal(one.vectors, other.vectors)
        np.testing.assert_array_equal(one.token_counts, other.token_counts)
        np.testing.assert_array_equal(one.truncated, other.truncated)
        assert one.failures == other.failures
        too_long = {2, 5} if truncate is Truncate.NONE else set()
        assert {failure.index for failure in one.failures} == {1, 4} | too_long
        assert all(f"text {failure.index}" in failure.message for failure in one.failures)


@asynccontextmanager
async def jobs(
    found: Booted, mark: Mark, *, cache: VectorCache | None = None, poison: str | None = None
) -> AsyncIterator[JobHandler]:
    """What runs claims, with a device of its own."""
    failures = {token_of(found.tokenizer, poison): BackendError} if poison else None
    backend = FakeBackend(dim=found.model.dim, failures=failures)
    budget = Budget(max_tokens=1000, max_texts=1000, padded=False)
    batcher = Batcher(budget, dim=backend.dim)
    activity = Activity(30)
    runner = Runner(
        backend,
        batcher,
        pace=Pace(1e6),
        activity=activity,
        on_batch=lambda _: None,
        on_death=lambda _: None,
    )
    pipeline = RequestPipeline(served_model(Settings(model=MODEL), found), found.tokenizer, cache=cache)
    with ThreadPoolExecutor() as executor:
        yield JobHandler(
            pipeline, batcher, executor=executor, mark=mark, activity=activity, on_job=lambda _: None
        )
        batcher.close(BackendDead("the test is over"))
        runner.close()


def claimed(job: str, bisection: Bisection | None = None) -> Claim:
    return Claim(job=job, token="", tries=1, num_bytes=1, num_texts=1, waited_s=0, bisection=bisection)


def payload(*texts: str) -> bytes:
    return prepare_job(build_request(MODEL, texts, EmbedOptions())).payload


async def suspect(redis: Redis, *texts: str) -> Claim:
    """A claim of a job that was held when a worker died."""
    prepared = prepare_job(build_request(MODEL, texts, EmbedOptions()))
    await submit(redis, KEYS, prepared, limits=QueueLimits(), keep_result_s=60)
    [(claim, _)] = await owner(redis).claim(1, 1)
    assert claim.bisection is None
    return await again(redis, claim)


async def again(redis: Redis, claim: Claim) -> Claim:
    """The next claim after the death of its owner."""
    await redis.zadd(KEYS.leases, {claim.job: 1})
    [(claim, _)] = await owner(redis).claim(1, 1)
    return claim


def owner(redis: Redis) -> Leases:
    return Leases(redis, KEYS, worker="a", lease_s=30)


@pytest.mark.slow
@pytest.mark.first_server
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("killers", "word", "parent"),
    [
        ({2500}, KILLS_DEVICE, True),
        ({2500}, KILLS_DEVICE, False),
        ({0, 2047, 4095}, KILLS_DEVICE, True),
        ({77}, KILLS_TOKENIZER, True),
    ],
)
async def test_only_the_text_that_kills_fails(
    redis: Redis, server: EmbeddedServer, fake: Booted, *, killers: set[int], word: str, parent: bool
) -> None:
    """Among many innocent jobs, with a parent that hands back and without: processes die of SIGKILL."""
    texts = texts_with(killers, 4096, word)
    innocents = [[f"innocent {job} {n}" for n in range(1 + job % 40)] for job in range(60)]
    started_s = time.monotonic()
    async with Client(server.url, model=MODEL) as client:
        sent = [(await client.submit(one)).job for one in innocents[:30]]
        job = (await client.submit(texts)).job
        sent += [(await client.submit(one)).job for one in innocents[30:]]
        with host(server.url, parent=parent, lease_s=0.6) as died:
            for one, name in zip(innocents, sent, strict=True):
                check(fake, one, await client.result(name, timeout_s=1100))
            log.info("innocents answered after deaths=%d", len(died))
            assert len(died) <= 4  # two, but for what was claimed together with the job
            check(fake, texts, await client.result(job, timeout_s=1100), killers=killers)
            num_deaths = len(died)
            log.info("deaths=%d seconds=%.1f", num_deaths, time.monotonic() - started_s)
        [letter] = await client.dead_letters()
        assert (letter.job, letter.code, letter.num_texts) == (
            f"{job}-killers",
            "killed_worker",
            len(killers),
        )
        _, request = await client.dead_letter(letter.job)
        assert request is not None
        assert request.texts == tuple(texts[at] for at in sorted(killers))
    assert num_deaths <= 1 + len(killers) * 15
    totals = await hgetall(redis, KEYS.totals)
    assert (totals[b"done"], await text_bytes(redis, KEYS)) == (b"61", 0)
    assert b"failed" not in totals
