"""Any order of enqueueing, claiming, losing and ending jobs that Hypothesis finds, compared with a model.

After each step the whole key space is compared: each job is in exactly one state, has at most one owner,
its result is never overwritten, the byte counter is right, and every key belongs to something.
"""

import asyncio
import math
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from support.queue_model import HEAD_START_MS, MAX_DEAD_LETTERS, DeadLetterModel, Job, Model

from producer.contract import EmbedOptions, Failure, Keys, build_request, decode_result, encode_failure
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, JobNameTaken, QueueFull, ResultNotFound, ResultTimeout
from producer.queue.cancel import CANCELLED, Ask, Cancellation, RunCancelled
from producer.queue.dead_letters import DeadLetters
from producer.queue.enqueue import QueueLimits, prepare_job, submit
from producer.queue.notifications import Notifications
from producer.queue.results import Results
from producer.queue.worker_watch import WorkerWatch
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import connect
from worker.consumer import leases
from worker.consumer.bisection import NOTHING, Bisection
from worker.consumer.handback import HandedBack, hand_back
from worker.consumer.leases import Claim, JobResult, Leases

pytestmark = pytest.mark.every_server

KEYS = Keys("states")
IDS = ("a", "b", "c")
WORKERS = ("one", "two", "three")
LEASE_S = 1000.0  # no lease expires unless a rule says so
PAST_MS = 1

# Every key there is, with its value and how long it lives
EVERYTHING = """
local found = {}
local read = {string = {'GET'}, hash = {'HGETALL'}, set = {'SMEMBERS'},
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'}}
for _, key in ipairs(redis.call('KEYS', '*')) do
  local command = read[redis.call('TYPE', key).ok]
  found[#found + 1] = {key, redis.call(command[1], key, unpack(command, 2)), redis.call('PTTL', key)}
end
return found
"""

_T = TypeVar("_T")
workers = st.sampled_from(WORKERS)
places = st.integers(0, 3) | st.integers(0, 1_000)  # in a list that wraps around; mostly near its start


class Queue(RuleBasedStateMachine):
    """One queue with a few jobs, three workers, and every claim that any of them ever had."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis = connect(url)
        self.blocking = Redis.from_url(url)
        self.workers = {
            name: Leases(self.redis, KEYS, worker=name, lease_s=LEASE_S, describe=lambda: b"record")
            for name in WORKERS
        }
        self.dead_letters = DeadLetters(self.redis, KEYS)
        self.cancellation = Cancellation(self.redis, KEYS)
        pipeline = AutoPipeline(self.redis)
        workers = WorkerWatch(self.redis, pipeline, KEYS, model=KEYS.queue, url=url, wait_s=math.inf)
        self.pipeline = pipeline
        self.results = Results(pipeline, KEYS, url, workers, Notifications())
        self.texts: dict[str, str] = {}  # of the last request by the name of its job
        self.num_asks = 0
        self.model = Model()
        self.claims: list[Claim] = []
        self.num_failures = 0

    def do(self, step: Awaitable[_T]) -> _T:
        async def taken() -> _T:
            try:
                return await step
            finally:
                self.results.flush()
                await self.pipeline.flush(timeout_s=5)

        return self.runner.run(taken())

    def now_ms(self) -> int:
        time: Any = self.blocking.time()
        seconds, micros = time
        return int(seconds) * 1000 + int(micros) // 1000

    def number_at(self, key: str, field: str) -> int:
        value: Any = self.blocking.hget(key, field)
        return int(value)

    def next_ms(self) -> int:
        """A millisecond of its own: the outcome must not depend on which steps share one."""
        last = self.now_ms()
        while (now := self.now_ms()) == last:
            pass
        return now

    def teardown(self) -> None:
        self.do(self.redis.aclose())
        self.blocking.close()
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        self.blocking.flushdb()

    @rule(
        place=places,
        new=st.integers(0, 4),
        size=st.integers(1, 50) | st.none(),
        priority=st.sampled_from(sorted(HEAD_START_MS)),
        bounds=st.tuples(st.sampled_from([2, 100]), st.sampled_from([200, 10_000])),
        keep_s=st.sampled_from([60, 3600]),
        run=st.sampled_from(["", "run"]),
        waits=st.booleans(),
    )
    def enqueue(
        self,
        place: int,
        new: int,
        size: int | None,
        *,
        priority: str,
        bounds: tuple[int, int],
        keep_s: int,
        run: str,
        waits: bool,
    ) -> None:
        """A new job, one that is joined since it or its result is there, or one that is refused: the queue is
        full, or the name in use for other texts.
        """
        max_jobs, max_bytes = bounds
        known = self.model.jobs.keys() | self.model.results.keys()
        name = _one([name for name in IDS if name not in known] if new else sorted(known), place) or IDS[0]
        text = self.texts.get(name, "x") if size is None else "x" * size
        prepared = prepare_job(build_request("m", [text], EmbedOptions()), job=name)
        job = Job(prepared.payload, len(text), HEAD_START_MS[priority], score=0)
        job.digest, job.keep_ms = prepared.digest, keep_s * 1000
        self.num_asks += 1
        asker = f"asker{self.num_asks}" if waits else ""
        before_ms = self.next_ms()
        expected = self.model.enqueue(name, job, run=run, asker=asker, max_jobs=max_jobs, max_bytes=max_bytes)
        terms: dict[str, Any] = {"priority": priority, "keep_result_s": keep_s, "run": run, "asker": asker}
        limits = QueueLimits(max_jobs=max_jobs, max_bytes=max_bytes)
        try:
            step = submit(self.redis, KEYS, prepared, limits=limits, **terms)
            happened = "joined" if self.do(step).joined else "queued"
        except QueueFull:
            happened = "full"
        except JobNameTaken:
            happened = "taken"
        assert happened == expected
        if happened == "queued":
            self.texts[name] = text
            job.score = self.score_of(name, job.head_start_ms, before_ms)
        elif happened == "joined" and name in self.model.jobs:
            self.check_moved(name, before_ms - job.head_start_ms, self.now_ms() - job.head_start_ms)

    def check_moved(self, name: str, first: int, last: int) -> None:
        """A join makes the job as urgent as a new one would be, and never less urgent."""
        job, score = self.model.jobs[name], self.number_at(KEYS.job(name), "score")
        assert min(job.score, first) <= score <= min(job.score, last)
        job.move(score)

    def score_of(self, name: str, head_start_ms: int, before_ms: int) -> int:
        score = self.number_at(KEYS.job(name), "score")
        assert before_ms <= score + head_start_ms <= self.now_ms()
        return score

    @precondition(lambda self: self.model.may_be_claimed())
    @rule(worker=workers, max_jobs=st.integers(1, 4), max_bytes=st.sampled_from([0, 50, 1 << 30]))
    def claim(self, worker: str, max_jobs: int, max_bytes: int) -> None:
        """The first jobs in order, with their requests; those with expired leases are among them again."""
        self.model.free_due(self.next_ms())
        expected = self.model.next_jobs(max_jobs, max_bytes)
        got = self.do(self.workers[worker].claim(max_jobs, max_bytes))
        self.read_scores()
        assert [claim.job for claim, _ in got] == expected
        for claim, payload in got:
            had = {(old.job, old.token) for old in self.claims}
            assert (claim.job, claim.token) not in had, "a zombie passes for the owner"
            self.model.claimed(claim.job, claim)
            job = self.model.jobs[claim.job]
            assert (payload, claim.num_bytes, claim.tries) == (job.payload, job.num_bytes, job.tries)
            assert (claim.bisection is not None) == job.suspect
            self.claims.append(claim)

    def read_scores(self) -> None:
        """Scores that the server's clock decided, which has moved on since we read it."""
        for name, job in self.model.jobs.items():
            score = self.number_at(KEYS.job(name), "score")
            assert 0 <= score - job.score < 5_000
            job.move(score)

    def owned(self, place: int) -> tuple[Claim, Leases]:
        """A claim that its worker has not lost."""
        claim = _one([claim for claim in self.claims if self.model.owns(claim)], place)
        assert claim is not None
        return claim, self.workers[_worker(claim)]

    def new_failure(self) -> Failure:
        self.num_failures += 1
        return Failure(code="test", message=f"failure {self.num_failures}")

    @precondition(lambda self: self.model.owners())
    @rule(place=places)
    def finish(self, place: int) -> None:
        """The owner ends the job with a result."""
        claim, worker = self.owned(place)
        result = encode_failure(self.new_failure())
        self.model.end(claim.job, result, "done")
        assert self.do(worker.finish(claim, JobResult(result)))

    @precondition(lambda self: self.model.owners())
    @rule(place=places)
    def finish_with_dead_letter(self, place: int) -> None:
        """The owner ends the job, and some of its texts become a dead letter of their own."""
        claim, worker = self.owned(place)
        result, failure, name = encode_failure(self.new_failure()), self.new_failure(), f"{claim.job}+"
        job = Job(f"texts of {claim.job}".encode(), 1, self.model.jobs[claim.job].head_start_ms, score=0)
        letter = leases.NewDeadLetter(
            job=name, request=job.payload, num_bytes=1, num_texts=1, failure=failure, tries=7
        )
        keep_ms = self.model.end(claim.job, result, "done").keep_ms
        assert self.do(worker.finish(claim, JobResult(result, letter)))
        if name not in self.model.jobs:
            job.suspect, job.keep_ms = True, keep_ms
            died_ms = self.number_at(KEYS.dead_letter(name), "died")
            self.model.keep(name, DeadLetterModel(job, died_ms, failure.code, 7))

    @precondition(lambda self: self.model.owners())
    @rule(place=places)
    def mark(self, place: int) -> None:
        """The owner marks texts as under test."""
        claim, worker = self.owned(place)
        self.model.jobs[claim.job].suspect = self.model.jobs[claim.job].under_test = True
        assert self.do(worker.mark(claim, Bisection(), NOTHING))

    @precondition(lambda self: self.model.owners())
    @rule(place=places)
    def bury(self, place: int) -> None:
        """The owner gives the job up: it fails and becomes a dead letter."""
        claim, worker = self.owned(place)
        failure = self.new_failure()
        assert self.do(worker.bury(claim, failure, tries=claim.tries))
        died_ms = self.number_at(KEYS.dead_letter(claim.job), "died")
        letter = DeadLetterModel(self.model.jobs[claim.job], died_ms, failure.code, claim.tries)
        self.model.bury(claim.job, encode_failure(failure), letter)

    @precondition(lambda self: self.model.owners())
    @rule(place=places, pause=st.booleans(), burn_try=st.booleans())
    def release(self, place: int, pause: bool, burn_try: bool) -> None:
        """The owner hands the job back, at once or after a pause."""
        claim, worker = self.owned(place)
        job = self.model.jobs[claim.job]
        job.owner, job.pending, job.due = None, not pause, False
        job.tries -= not burn_try
        job.under_test = False
        assert self.do(worker.release(claim, pause_s=LEASE_S if pause else 0.0, burn_try=burn_try))

    @precondition(lambda self: any(not self.model.owns(claim) for claim in self.claims))
    @rule(place=places)
    def a_zombie_writes_nothing(self, place: int) -> None:
        """A worker that lost the job, whatever has become of it since."""
        claim = _one([claim for claim in reversed(self.claims) if not self.model.owns(claim)], place)
        assert claim is not None
        worker, failure = self.workers[_worker(claim)], self.new_failure()
        assert not self.do(worker.finish(claim, JobResult(encode_failure(failure))))
        assert not self.do(worker.bury(claim, failure, tries=claim.tries))
        assert not self.do(worker.mark(claim, Bisection(), NOTHING))
        assert not self.do(worker.release(claim, burn_try=False))
        assert not self.do(worker.release(claim, pause_s=LEASE_S, burn_try=True))

    @precondition(lambda self: self.claims)
    @rule(worker=workers)
    def renew(self, worker: str) -> None:
        """All claims that a worker ever had: it learns which are lost, and the others are extended."""
        had = [claim for claim in self.claims if _worker(claim) == worker]
        held = [claim for claim in had if self.model.owns(claim)]
        lost = [claim for claim in had if not self.model.owns(claim)]
        assert self.do(self.workers[worker].renew(self.redis, held)).lost == set()
        for claim in held:
            self.model.jobs[claim.job].due = False
        assert self.do(self.workers[worker].renew(self.redis, lost)).lost == {claim.job for claim in lost}

    @precondition(lambda self: self.model.running())
    @rule(place=places)
    def time_runs_out(self, place: int) -> None:
        """A job's lease or pause expires."""
        name = _one(self.model.running(), place)
        assert name is not None
        job = self.model.jobs[name]
        ends_ms: Any = self.blocking.zscore(KEYS.leases, name)
        assert job.due or ends_ms > self.now_ms()
        self.blocking.zadd(KEYS.leases, {name: PAST_MS}, xx=True)
        job.due = True

    @precondition(lambda self: self.claims)
    @rule(worker=workers)
    def hand_back(self, worker: str) -> None:
        """The parent of a dead worker hands back what it held."""
        held = [job for job in self.model.jobs.values() if job.owner and _worker(job.owner) == worker]
        left = HandedBack(num_jobs=len(held), num_under_test=sum(job.under_test for job in held))
        now_ms = self.next_ms()
        for job in held:
            self.model.free(job, now_ms)
        assert self.do(hand_back(self.redis, KEYS, worker)) == left
        self.read_scores()

    @precondition(lambda self: self.model.jobs)
    @rule(place=places)
    def cancel(self, place: int) -> None:
        """In any state of the job, and only once."""
        name = _one(sorted(self.model.jobs), place)
        assert name is not None
        self.model.end(name, CANCELLED, "cancelled", keep_ms=60_000)
        assert self.do(self.cancellation.cancel(name))
        assert not self.do(self.cancellation.cancel(name))

    @precondition(lambda self: any(job.askers for job in self.model.jobs.values()))
    @rule(place=places)
    def withdraw(self, place: int) -> None:
        """A caller leaves: the job ends if nobody else asks for it; and an ask is withdrawn only once."""
        asks = [Ask(name, asker) for name, job in sorted(self.model.jobs.items()) for asker in job.askers]
        ask = _one(asks, place)
        assert ask is not None
        assert self.do(self.cancellation.withdraw([ask])) == self.model.withdraw(ask.job, ask.asker)
        assert self.do(self.cancellation.withdraw([ask])) == 0

    @precondition(lambda self: self.model.jobs)
    @rule()
    def cancel_run(self) -> None:
        """Its jobs end, but for those that others ask for."""
        expected = self.model.cancel_run("run")
        assert self.do(self.cancellation.cancel_run("run")) == RunCancelled(*expected)
        assert self.do(self.cancellation.cancel_run("run")) == RunCancelled(0, 0)

    @precondition(lambda self: self.model.jobs)
    @rule(place=places)
    def a_deadline_passes(self, place: int) -> None:
        """Which a job that is pending now will not survive."""
        name = _one(sorted(self.model.jobs), place)
        assert name is not None
        self.model.jobs[name].overdue = True
        self.blocking.hset(KEYS.job(name), "deadline", str(PAST_MS))

    @precondition(lambda self: self.model.jobs)
    @rule(place=places)
    def wait(self, place: int) -> None:
        """Whoever waits for a job ends it if it is pending after its deadline."""
        name = _one(sorted(self.model.jobs), place)
        assert name is not None
        if self.model.jobs[name].overdue and self.model.jobs[name].pending:
            self.model.end_overdue(name)
        with pytest.raises(ResultTimeout):
            self.do(self.results.wait(name, asyncio.Event(), timeout_s=0, consume=False))

    @precondition(lambda self: self.model.results)
    @rule(place=places, worker=workers)
    def an_answer_expires(self, place: int, worker: str) -> None:
        """The next heartbeat of any worker stops counting it."""
        name = _one(sorted(self.model.results), place)
        assert name is not None
        answer = self.model.results.pop(name)
        self.blocking.delete(KEYS.result(name))
        self.blocking.zadd(KEYS.answers, {f"{len(answer.payload)} {name}": PAST_MS}, xx=True)
        assert self.do(self.workers[worker].renew(self.redis, [])).lost == set()

    @precondition(lambda self: self.model.results)
    @rule(place=places)
    def read(self, place: int) -> None:
        """The result can be read until all who asked have consumed it."""
        name = _one(sorted(self.model.results), place)
        assert name is not None
        expected = decode_result(self.model.results[name].payload)
        assert isinstance(expected, Failure)
        for consume in (False, True):
            with pytest.raises(JobFailed) as failed:
                self.do(self.results.wait(name, asyncio.Event(), timeout_s=0, consume=consume))
            assert failed.value.worker_code == expected.code
            assert expected.message in str(failed.value)
        self.model.consume(name)
        if name not in self.model.results:
            with pytest.raises(ResultNotFound):
                self.do(self.results.wait(name, asyncio.Event(), timeout_s=0, consume=True))

    @precondition(lambda self: self.model.dead_letters)
    @rule(place=places)
    def requeue(self, place: int) -> None:
        """A dead letter becomes a job again, with its old head start; and only once."""
        name = _one(sorted(self.model.dead_letters), place)
        assert name is not None
        before_ms = self.next_ms()
        assert self.do(self.dead_letters.requeue(name))
        job = self.model.dead_letters[name].job
        job.head_start_ms = max(job.head_start_ms, min(HEAD_START_MS.values()))  # a death took more
        self.model.requeue(name, score=self.score_of(name, job.head_start_ms, before_ms))
        assert not self.do(self.dead_letters.requeue(name))

    @precondition(lambda self: self.model.dead_letters)
    @rule(place=places)
    def drop(self, place: int) -> None:
        """A dead letter is deleted; and only once."""
        name = _one(sorted(self.model.dead_letters), place)
        assert name is not None
        del self.model.dead_letters[name]
        assert self.do(self.dead_letters.drop(name))
        assert not self.do(self.dead_letters.drop(name))

    @invariant()
    def the_server_holds_what_the_model_holds(self) -> None:
        """Key by key; and every one has an end."""
        everything: Any = self.blocking.eval(EVERYTHING, 0)
        assert [key for key, _, ttl_ms in everything if ttl_ms <= 0] == []
        found = {key.decode(): value for key, value, _ in everything}
        ends_ms = {key.decode(): ttl_ms for key, _, ttl_ms in everything}
        found.pop(KEYS.workers, None)
        found.pop(KEYS.idle, None)
        for name in WORKERS:
            found.pop(KEYS.worker(name), None)
        totals = _fields(found.pop(KEYS.totals, []))
        totals.pop("heard", None)
        assert {name: int(count) for name, count in totals.items() if int(count)} == self.model.counts()
        self.compare_jobs(found)
        self.compare_answers(found, ends_ms)
        self.compare_dead_letters(found)
        assert not found

    def compare_jobs(self, held: dict[str, Any]) -> None:
        model = self.model
        pending = _fields(held.pop(KEYS.pending, []))
        assert list(pending) == model.pending()
        assert all(int(score) == model.jobs[name].score for name, score in pending.items())
        for worker in WORKERS:
            owned = [name for name, job in model.jobs.items() if job.owner and _worker(job.owner) == worker]
            assert sorted(job.decode() for job in held.pop(KEYS.held(worker), [])) == sorted(owned)
        ends = _fields(held.pop(KEYS.leases, []))
        assert sorted(ends) == model.running()
        assert all((int(end) == PAST_MS) == model.jobs[name].due for name, end in ends.items())
        for name, job in model.jobs.items():
            assert held.pop(KEYS.request(name)) == job.payload
            facts = _fields(held.pop(KEYS.job(name)))
            assert facts.get("token") == (job.owner and job.owner.token)
            assert int(facts["tries"]) == job.tries
            assert ("bisection" in facts, "under_test" in facts) == (job.suspect, job.under_test)
            assert (int(facts.get("keep", 0)), int(facts["asks"])) == (job.keep_ms, job.asks.total())

    def compare_answers(self, found: dict[str, Any], ends_ms: dict[str, int]) -> None:
        answers = self.model.results
        counted = _fields(found.pop(KEYS.answers, []))
        assert set(counted) == {f"{len(one.payload)} {name}" for name, one in answers.items()}
        askers, digests = (_fields(found.pop(key, [])) for key in (KEYS.askers, KEYS.digests))
        assert askers.keys() <= answers.keys()
        assert digests == {name: one.digest for name, one in answers.items() if one.digest}
        for name, one in answers.items():
            assert found.pop(KEYS.result(name)) == one.payload
            assert int(askers.get(name, 1)) == one.asks
            assert one.keep_ms - 20_000 < ends_ms[KEYS.result(name)] <= one.keep_ms

    def compare_dead_letters(self, found: dict[str, Any]) -> None:
        died = _fields(found.pop(KEYS.dead_letters, []))
        assert {name: int(float(when)) for name, when in died.items()} == self.model.died()
        for name, letter in self.model.dead_letters.items():
            assert found.pop(KEYS.dead_request(name)) == letter.job.payload
            facts = _fields(found.pop(KEYS.dead_letter(name)))
            assert (facts["code"], int(facts["tries"])) == (letter.code, letter.tries)


def _fields(pairs: list[bytes]) -> dict[str, str]:
    """Fields from the reply of HGETALL or ZRANGE WITHSCORES inside a script."""
    return {name.decode(): value.decode() for name, value in zip(pairs[::2], pairs[1::2], strict=True)}


def _worker(claim: Claim) -> str:
    return claim.token.partition(":")[0]


def _one(candidates: Sequence[_T], place: int) -> _T | None:
    return candidates[place % len(candidates)] if candidates else None


def run(server: EmbeddedServer, *, max_examples: int) -> None:
    run_state_machine_as_test(
        lambda: Queue(server.url),  # type: ignore[arg-type]  # any factory is taken
        settings=settings(
            max_examples=max_examples,
            stateful_step_count=100,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture(autouse=True)
def _few_dead_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "MAX_DEAD", MAX_DEAD_LETTERS)


@pytest.mark.timeout(180)
def test_the_queue_does_what_the_model_does(server: EmbeddedServer) -> None:
    """A few dozen runs of a hundred steps."""
    run(server, max_examples=30)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_queue_does_what_the_model_does_for_long(server: EmbeddedServer) -> None:
    """Hundreds of runs."""
    run(server, max_examples=300)
