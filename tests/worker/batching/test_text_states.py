"""The state of every text, through any order of joining, batching, failing, answering and leaving."""

import asyncio
from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from worker.batching.coalescing import Coalescer
from worker.batching.pending import Batch, PendingJob, TextState, gather
from worker.contract import Indices, Tokens

WAITING, BATCHED, COALESCED, ANSWERED = TextState
STEPS = {
    (WAITING, BATCHED),
    (WAITING, COALESCED),
    (COALESCED, WAITING),
    (COALESCED, ANSWERED),
    (BATCHED, ANSWERED),
}
FAILING = 0  # the text that no batch can compute


class TextStates(RuleBasedStateMachine):
    """Pending jobs whose texts are numbers: a text's id, its key and its vector are that number."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.coalescer = Coalescer()
        self.pending: list[PendingJob] = []  # joined, and not left
        self.batches: list[Batch] = []  # on the device
        self.answers: Counter[tuple[PendingJob, int]] = Counter()
        self.seen: dict[PendingJob, list[int]] = {}

    def teardown(self) -> None:
        """Whoever stayed gets all answers, each once and with its own vector, and nothing is left behind."""
        try:
            while self.batches or any(job.num_waiting for job in self.pending):
                self.pack_all()
                self.states_follow_each_other()
                self.answer(0)
                self.states_follow_each_other()
            for job in self.pending:
                assert (job.states == ANSWERED).all()
                assert job.num_unanswered == 0
                assert job.duplicates == {}
                expected = np.where(job.tokens.ids == FAILING, np.nan, job.tokens.ids)
                np.testing.assert_array_equal(job.vectors[:, 0], expected)
        finally:
            self.loop.close()

    @rule(texts=st.sets(st.integers(0, 9), min_size=1), coalesced=st.sampled_from([True, True, False]))
    def join(self, texts: set[int], coalesced: bool) -> None:
        """A job is submitted."""
        ids = np.array(sorted(texts), dtype=np.int32)
        position_of = {int(text): at for at, text in enumerate(ids)} if coalesced else None

        async def made() -> PendingJob:
            tokens = Tokens(ids, np.arange(len(ids) + 1, dtype=np.int32))
            return PendingJob.of(tokens, dim=1, position_of=position_of)

        job = self.loop.run_until_complete(made())
        self.seen[job] = job.states.tolist()
        self.coalescer.join(job)
        self.pending.append(job)

    @rule(data=st.data())
    def pack(self, data: st.DataObject) -> None:
        """A batch of any of the texts that wait."""
        chosen = []
        for job in self.pending:
            picked = data.draw(st.sets(st.sampled_from(job.waiting.tolist()))) if job.num_waiting else set()
            if picked:
                chosen.append((job, np.array(sorted(picked), dtype=np.intp)))
        self.pack_these(chosen)

    @rule()
    def pack_all(self) -> None:
        """A batch of all texts that wait."""
        self.pack_these([(job, job.waiting) for job in self.pending if job.num_waiting])

    def pack_these(self, chosen: list[tuple[PendingJob, Indices]]) -> None:
        """No text is left waiting, and of duplicates one is computed."""
        if not chosen:
            return
        batch = gather(self.coalescer.packed(chosen))
        for job, positions in chosen:
            assert not (job.states[positions] == WAITING).any()
        groups = [
            id(job.duplicates[at])
            for job, positions in batch.parts
            for at in positions.tolist()
            if at in job.duplicates
        ]
        assert len(groups) == len(set(groups))
        self.batches.append(batch)

    @precondition(lambda self: any(len(batch) > 1 for batch in self.batches))
    @rule()
    def fail_in_halves(self) -> None:
        """A batch fails and is computed in halves."""
        batch = next(batch for batch in self.batches if len(batch) > 1)
        self.batches.remove(batch)
        self.batches += batch.halves()

    @precondition(lambda self: self.batches)
    @rule(which=st.integers(0, 3))
    def answer(self, which: int) -> None:
        """A batch's texts are answered, those of jobs that have left and those that fail too."""
        if not self.batches:
            return
        batch = self.batches.pop(which % len(self.batches))
        for job, positions in batch.parts:
            texts = job.tokens.ids[positions]
            for one in self.coalescer.answered(job, positions):
                assert one.job.tokens.ids[one.position] == texts[one.row]
                self.answer_one(one.job, one.position)
            for at in positions.tolist():
                self.answer_one(job, at)

    def answer_one(self, job: PendingJob, at: int) -> None:
        """Its vector is its text, unless it is the one that fails."""
        text = job.tokens.ids[at]
        self.answers[job, at] += 1
        if text == FAILING:
            done = job.refuse(at, "a_code", "a reason")
        else:
            done = job.write(np.array([at]), np.array([[text]], dtype=np.float32), np.array([True]))
        assert done == (sum(self.answers[job, at] for at in range(len(job.states))) == len(job.states))

    @precondition(lambda self: self.pending)
    @rule(which=st.integers(0, 5))
    def leave(self, which: int) -> None:
        """A job is done, or was cancelled: what others awaited from its batches waits again."""
        job = self.pending.pop(which % len(self.pending))
        successors = self.coalescer.leave(job)
        assert all(one in self.pending and one.num_waiting for one in successors)

    @invariant()
    def states_follow_each_other(self) -> None:
        """One step at a time, the last of them once; what waits and what is in a batch is as they say."""
        in_batches = {
            (job, at) for batch in self.batches for job, positions in batch.parts for at in positions.tolist()
        }
        for job, before in self.seen.items():
            now = job.states.tolist()
            assert {(one, other) for one, other in zip(before, now, strict=True) if one != other} <= STEPS
            assert job.waiting.tolist() == [at for at, state in enumerate(now) if state == WAITING]
            assert job.num_waiting == len(job.waiting)
            assert {(job, at) for at, state in enumerate(now) if state == BATCHED} == {
                (owner, at) for owner, at in in_batches if owner is job
            }
            for at, state in enumerate(now):
                assert self.answers[job, at] == (state == ANSWERED)
            self.seen[job] = now
        for job in self.pending:
            for at in np.flatnonzero(job.states == COALESCED).tolist():
                members = job.duplicates[at].members
                assert (job, at) in members
                assert {int(other.tokens.ids[place]) for other, place in members} == {int(job.tokens.ids[at])}
                assert [int(other.states[place]) for other, place in members].count(BATCHED) == 1


TestTextStates = TextStates.TestCase
TestTextStates.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
