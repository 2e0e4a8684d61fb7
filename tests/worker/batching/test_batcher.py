"""Batcher and runner together: every text gets its own answer, whatever happens to its batch."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Hashable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import cast

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.errors import BackendDead, BackendError
from worker.backends.fake import FakeBackend, fake_vectors
from worker.batching.batcher import MAX_SHARED_TURNS, Batcher, all_finite
from worker.batching.pace import Pace
from worker.batching.packing import Budget
from worker.batching.pending import Embedded
from worker.batching.runner import Runner
from worker.contract import FloatArray, Handle, Tokens
from worker.telemetry.activity import Activity
from worker.telemetry.events import BatchEvent

DIM = 8
POISON = 13


def tokens(*texts: list[int]) -> Tokens:
    offsets = np.cumsum([0] + [len(text) for text in texts], dtype=np.int32)
    return Tokens(np.array([token for text in texts for token in text], dtype=np.int32), offsets)


def distinct(texts: list[list[int]]) -> list[list[int]]:
    return [list(text) for text in dict.fromkeys(map(tuple, texts))]


def by_ids(texts: list[list[int]]) -> dict[Hashable, int]:
    """The position of each text by its ids."""
    return {tuple(text): at for at, text in enumerate(texts)}


def check(job: Tokens, got: Embedded, *, failed: Collection[int] = ()) -> None:
    assert {one.index for one in got.failures} == set(failed)
    expected = fake_vectors(job, DIM)
    for index in range(len(job)):
        if index in failed:
            assert np.isnan(got.vectors[index]).all()
        else:
            np.testing.assert_array_equal(got.vectors[index], expected[index])


@asynccontextmanager
async def running(
    backend: FakeBackend, *, events: list[BatchEvent] | None = None, max_texts: int = 64
) -> AsyncIterator[tuple[Batcher, list[BaseException]]]:
    """A batcher whose runner has the backend, and the errors that ended it."""
    budget = Budget(max_tokens=backend.max_batch_tokens, max_texts=max_texts, padded=backend.padded)
    batcher = Batcher(budget, dim=backend.dim)
    deaths: list[BaseException] = []
    seen: Callable[[BatchEvent], None] = (events if events is not None else []).append
    runner = Runner(
        backend, batcher, pace=Pace(1e6), activity=Activity(30), on_batch=seen, on_death=deaths.append
    )
    try:
        yield batcher, deaths
    finally:
        batcher.close(BackendDead("the test is over"))
        runner.close()


job_of_similar_texts = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=3), max_size=30)
job_of_texts = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=20), max_size=30)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    jobs=st.lists(job_of_texts, min_size=1, max_size=6),
    padded=st.booleans(),
    max_batch_tokens=st.integers(20, 200),
    memory_tokens=st.integers(1, 200),
    coalesced=st.booleans(),
)
def test_every_text_gets_its_own_vector(
    jobs: list[list[list[int]]], *, padded: bool, max_batch_tokens: int, memory_tokens: int, coalesced: bool
) -> None:
    """In any company, past poison and out-of-memory; only the texts at fault fail."""

    async def scenario() -> None:
        backend = FakeBackend(
            dim=DIM,
            max_batch_tokens=max_batch_tokens,
            max_text_tokens=20,
            padded=padded,
            memory_tokens=memory_tokens,
            failures={POISON: BackendError},
        )
        async with running(backend) as (batcher, deaths):
            asked = [distinct(texts) if coalesced else texts for texts in jobs]
            sent = [tokens(*texts) for texts in asked]
            got = await asyncio.gather(
                *(
                    batcher.embed(job, position_of=by_ids(texts) if coalesced else None)
                    for texts, job in zip(asked, sent, strict=True)
                )
            )
            for texts, job, answer in zip(asked, sent, got, strict=True):
                bad = {at for at, text in enumerate(texts) if POISON in text or len(text) > memory_tokens}
                check(job, answer, failed=bad)
            assert deaths == []

    asyncio.run(scenario())


async def test_jobs_meet_in_a_batch() -> None:
    """Small jobs that wait together are computed together."""
    events: list[BatchEvent] = []
    async with running(FakeBackend(dim=DIM, delay_s=0.05), events=events) as (batcher, _):
        await asyncio.gather(*(batcher.embed(tokens([n, n + 1])) for n in range(20)))
    assert len(events) <= 4
    assert sum(event.num_texts for event in events) == 20


async def test_parts_left_out_of_pooling_stay_so_in_a_batch_with_others() -> None:
    """Jobs with prompts that are left out, and one without, meet in one batch; so do the halves of it."""
    texts = [[n, n + 1, n + 2] for n in range(6)]
    jobs = [replace(tokens(*texts), num_unpooled=np.full(6, first, np.int32)) for first in (2, 1)]
    jobs.append(tokens(*texts))
    for memory_tokens in (None, 20):
        async with running(FakeBackend(dim=DIM, memory_tokens=memory_tokens)) as (batcher, _):
            answers = await asyncio.gather(*(batcher.embed(job) for job in jobs))
        for job, answer in zip(jobs, answers, strict=True):
            check(job, answer)


async def test_a_drained_device_has_no_text_of_a_cancelled_job() -> None:
    """The next batch is then alone on it."""
    collected: list[int] = []

    class Recording(FakeBackend):
        def collect(self, handle: Handle) -> FloatArray:
            vectors, job = super().collect(handle), cast("Tokens", handle)
            collected.append(len(job))
            return vectors

    async with running(Recording(dim=DIM, delay_s=0.1)) as (batcher, _):
        await batcher.drained()
        doomed = asyncio.create_task(batcher.embed(tokens([1])))
        await asyncio.sleep(0.05)
        doomed.cancel()
        assert collected == []
        await batcher.drained()
        assert collected == [1]


async def test_a_large_job_does_not_monopolise_the_device() -> None:
    """Jobs take turns: a small one that comes later is done long before the large one."""
    backend = FakeBackend(dim=DIM, max_batch_tokens=64, max_text_tokens=32, delay_s=0.002)
    async with running(backend) as (batcher, _):
        large = asyncio.create_task(batcher.embed(tokens(*[[n % 90] * 16 for n in range(800)])))
        await asyncio.sleep(0.01)
        await batcher.embed(tokens([1] * 3))
        assert not large.done()
        await large


async def test_without_padding_a_small_job_is_in_the_next_batch() -> None:
    """Half of a batch goes to the job whose turn it is, the rest to small jobs, then to the oldest."""
    batcher = Batcher(Budget(max_tokens=100, max_texts=64, padded=False), dim=DIM)
    large = [asyncio.create_task(batcher.embed(tokens(*[[n] * 10] * 1000))) for n in range(3)]
    small = asyncio.create_task(batcher.embed(tokens([9] * 10, [9] * 10)))
    await asyncio.sleep(0)
    batch = batcher.next_batch(block=False)
    assert batch is not None
    batcher.deliver(batch, np.zeros((len(batch), DIM), np.float32))
    assert len((await small).vectors) == 2
    assert batch.tokens.ids[batch.tokens.offsets[:-1]].tolist() == [0] * 5 + [9] * 2 + [1] * 3
    for task in large:
        task.cancel()


async def test_a_dead_device_answers_everybody() -> None:
    """Pending and later jobs fail with the error that ended it; nobody hangs."""
    backend = FakeBackend(dim=DIM, failures={POISON: BackendDead})
    async with running(backend) as (batcher, deaths):
        got = await asyncio.gather(
            *(batcher.embed(tokens([n])) for n in (1, POISON, 3)), return_exceptions=True
        )
        assert any(isinstance(answer, BackendDead) for answer in got)
        assert len(deaths) == 1
        with pytest.raises(BackendDead, match="configured to fail"):
            await batcher.drained()
        with pytest.raises(BackendDead, match="configured to fail"):
            await batcher.embed(tokens([4]))


async def test_a_bug_in_the_backend_is_fatal() -> None:
    """A backend that returns the wrong number of vectors is not used again."""

    class Miscounting(FakeBackend):
        def collect(self, handle: object) -> np.ndarray:
            return super().collect(handle)[:-1]

    async with running(Miscounting(dim=DIM)) as (batcher, deaths):
        with pytest.raises(BackendDead, match="returned 1 vectors for 2 texts"):
            await batcher.embed(tokens([1], [2]))
        assert len(deaths) == 1


async def test_a_vector_that_is_not_finite_fails_its_text() -> None:
    """Its neighbours in the batch keep theirs."""

    class Overflowing(FakeBackend):
        def collect(self, handle: Handle) -> FloatArray:
            vectors, job = super().collect(handle), cast("Tokens", handle)
            vectors[job.ids[job.offsets[:-1]] == POISON] = np.inf
            return vectors

    job = tokens([1, 2], [POISON], [3])
    async with running(Overflowing(dim=DIM)) as (batcher, _):
        got = await batcher.embed(job)
    check(job, got, failed={1})
    assert got.failures[0].code == "not_finite"


def test_what_is_not_finite_is_found_without_a_warning() -> None:
    """Infinities of both signs too, whose sum is NaN."""
    vectors = np.ones((3, DIM), np.float32)
    assert all_finite(vectors)
    vectors[1, :2] = np.inf, -np.inf
    assert not all_finite(vectors)


async def test_one_text_s_overflow_is_not_its_neighbours() -> None:
    """If it spoils all vectors of the batch, each text is computed alone."""

    class Spreading(FakeBackend):
        def collect(self, handle: Handle) -> FloatArray:
            vectors, job = super().collect(handle), cast("Tokens", handle)
            return vectors * np.float32(np.nan) if POISON in job.ids else vectors

    job = tokens([1, 2], [POISON], [3])
    async with running(Spreading(dim=DIM)) as (batcher, deaths):
        others = asyncio.create_task(batcher.embed(tokens([4], [5])))
        check(job, await batcher.embed(job), failed={1})
        check(tokens([4], [5]), await others)
        assert deaths == []


async def test_a_cancelled_job_does_not_harm_its_batch_mates() -> None:
    """Its texts are dropped, the others are answered."""
    async with running(FakeBackend(dim=DIM, delay_s=0.02, max_batch_tokens=20, max_text_tokens=20)) as (
        batcher,
        deaths,
    ):
        doomed = asyncio.create_task(batcher.embed(tokens(*[[n] * 10 for n in range(20)])))
        mate_tokens = tokens([1], [2], [3])
        mate = asyncio.create_task(batcher.embed(mate_tokens))
        await asyncio.sleep(0.03)
        doomed.cancel()
        check(mate_tokens, await mate)
        assert deaths == []


async def test_the_budget_shrinks_when_memory_runs_out_and_grows_back() -> None:
    """Halved at once, grown after many successful batches."""
    backend = FakeBackend(dim=DIM, max_batch_tokens=64, max_text_tokens=32, memory_tokens=40)
    async with running(backend) as (batcher, _):
        await batcher.embed(tokens(*[[1] * 8 for _ in range(8)]))
        shrunk = batcher.budget.max_tokens
        assert shrunk < 64
        for _ in range(70):
            await batcher.embed(tokens([1]))
        assert batcher.budget.max_tokens > shrunk


async def test_a_text_that_several_jobs_want_is_computed_once() -> None:
    """Whether it waits in all of them or is on the device already; every job gets the vector."""
    events: list[BatchEvent] = []
    first = [[n, n + 1] for n in range(30)]
    second = first[20:] + [[n] for n in range(40, 50)]
    async with running(FakeBackend(dim=DIM, delay_s=0.05), events=events, max_texts=16) as (batcher, _):
        jobs = [first, first, second]
        asked = [
            asyncio.create_task(batcher.embed(tokens(*job), position_of=by_ids(job))) for job in jobs[:2]
        ]
        await asyncio.sleep(0.02)  # the device has the first batch
        asked.append(asyncio.create_task(batcher.embed(tokens(*second), position_of=by_ids(second))))
        for job, answer in zip(jobs, await asyncio.gather(*asked), strict=True):
            check(tokens(*job), answer)
            assert answer.num_coalesced <= len(job)
    assert sum(event.num_texts for event in events) == 40
    assert sum(task.result().num_coalesced for task in asked) == 30 + 30 + 20 - 40


async def test_a_coalesced_text_that_fails_fails_in_every_job() -> None:
    """And only it."""
    backend = FakeBackend(dim=DIM, delay_s=0.02, failures={POISON: BackendError})
    job = [[1, 2], [POISON], [3]]
    async with running(backend) as (batcher, deaths):
        got = await asyncio.gather(*(batcher.embed(tokens(*job), position_of=by_ids(job)) for _ in range(3)))
        for answer in got:
            check(tokens(*job), answer, failed={1})
        assert deaths == []


async def test_a_text_that_a_cancelled_job_had_on_the_device_is_computed_again() -> None:
    """For the job that awaited its answer and had no other texts waiting."""
    events: list[BatchEvent] = []
    job = [[1, 2], [3]]
    async with running(FakeBackend(dim=DIM, delay_s=0.05), events=events) as (batcher, _):
        asked = [asyncio.create_task(batcher.embed(tokens(*job), position_of=by_ids(job)))]
        await asyncio.sleep(0.02)  # the device has it
        asked.append(asyncio.create_task(batcher.embed(tokens(*job), position_of=by_ids(job))))
        await asyncio.sleep(0)
        asked[0].cancel()
        check(tokens(*job), await asyncio.wait_for(asked[1], 10))
    assert sum(event.num_texts for event in events) == 4


@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(
    jobs=st.lists(job_of_similar_texts.map(distinct), min_size=2, max_size=6),
    cancelled=st.sets(st.integers(0, 5)),
    cancelled_after_s=st.sampled_from([0, 0.001, 0.003, 0.01]),
)
def test_jobs_coalesced_with_a_cancelled_job_are_answered(
    jobs: list[list[list[int]]], cancelled: set[int], cancelled_after_s: float
) -> None:
    """Its texts are computed for the jobs that still want them."""

    async def scenario() -> None:
        backend = FakeBackend(dim=DIM, max_batch_tokens=40, max_text_tokens=20, delay_s=0.001)
        async with running(backend) as (batcher, deaths):
            asked = [
                asyncio.create_task(batcher.embed(tokens(*job), position_of=by_ids(job))) for job in jobs
            ]
            await asyncio.sleep(cancelled_after_s)
            for at in cancelled:
                if at < len(asked):
                    asked[at].cancel()
            got = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 10)
            for job, answer in zip(jobs, got, strict=True):
                if not isinstance(answer, asyncio.CancelledError):
                    assert isinstance(answer, Embedded)
                    check(tokens(*job), answer)
            assert deaths == []
            # Nothing of it is left: the same texts are computed again.
            check(tokens(*jobs[0]), await batcher.embed(tokens(*jobs[0]), position_of=by_ids(jobs[0])))

    asyncio.run(scenario())


@pytest.mark.parametrize("padded", [False, True])
async def test_a_job_among_many_is_done_in_time(padded: bool) -> None:
    """After MAX_SHARED_TURNS turns its texts come first, or it gets half of each turn; batches are full."""
    batcher = Batcher(Budget(max_tokens=100, max_texts=64, padded=padded), dim=DIM)
    # A batch is filled with shorter texts than its oldest first, here those of the other jobs.
    jobs = [asyncio.create_task(batcher.embed(tokens(*[[1] * 19] * 2000))) for _ in range(9)]
    jobs.append(asyncio.create_task(batcher.embed(tokens(*[[2] * 20] * 40))))
    await asyncio.sleep(0)
    num_batches, num_left = 0, 40
    while num_left:
        batch = batcher.next_batch(block=False)
        assert batch is not None
        assert len(batch) == 5
        num_batches += 1
        num_left -= int(np.count_nonzero(batch.tokens.ids[batch.tokens.offsets[:-1]] == 2))
    own_batches = 40 // 5
    own_turns = MAX_SHARED_TURNS + own_batches if padded else 2 * own_batches
    assert num_batches <= len(jobs) * (own_turns + 1)
    for task in jobs:
        task.cancel()
