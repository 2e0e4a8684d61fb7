"""A model of the queue in plain Python, which the state machine compares the server with."""

from collections import Counter
from dataclasses import dataclass, field

from producer.queue.cancel import CANCELLED
from producer.queue.deadlines import OVERDUE
from worker.consumer.leases import Claim

HEAD_START_MS = {"high": 3_600_000, "normal": 0, "low": -3_600_000}
MAX_DEAD_LETTERS = 1
FAILURE_KEPT_MS = 60_000
DEFERRED_MS = 10_000
LATEST_MS = 3_600_000  # from now: no job is deferred behind jobs of low priority that come now


@dataclass(slots=True)
class Job:
    """A job on the queue: pending, leased (`owner`), or pausing (neither); `due` once its time is over.

    A `suspect` was held by a worker that died; `under_test` if its owner has marked texts of it. `digest` is
    that of its request, None for one that no client wrote; `asks` counts the calls that want it, by their
    runs, and `askers` has the run of each that may withdraw. `overdue` once its deadline has passed.
    """

    payload: bytes
    num_bytes: int
    head_start_ms: int
    score: int
    tries: int = 0
    pending: bool = True
    owner: Claim | None = None
    due: bool = False
    suspect: bool = False
    under_test: bool = False
    digest: str | None = None
    keep_ms: int = 60_000
    asks: Counter[str] = field(default_factory=Counter)
    askers: dict[str, str] = field(default_factory=dict)
    overdue: bool = False

    def ask(self, run: str, asker: str) -> None:
        """One more call wants it."""
        self.asks[run] += 1
        if asker:
            self.askers[asker] = run

    def move(self, score: int) -> None:
        """Change its place in the order, which it keeps as a head start when it is requeued."""
        self.head_start_ms -= score - self.score
        self.score = score


@dataclass(slots=True)
class DeadLetterModel:
    """A job that was given up, when, and why."""

    job: Job
    died_ms: int
    code: str
    tries: int


@dataclass(slots=True)
class AnswerModel:
    """A kept answer, and how many have not consumed it."""

    payload: bytes
    digest: str | None
    keep_ms: int
    asks: int


@dataclass(slots=True)
class Model:
    """One queue. Claims are compared by identity, whatever their tokens say."""

    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[str, AnswerModel] = field(default_factory=dict)
    dead_letters: dict[str, DeadLetterModel] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)

    @property
    def num_bytes(self) -> int:
        """Of texts on the queue and of kept answers."""
        answers = sum(len(answer.payload) for answer in self.results.values())
        return answers + sum(job.num_bytes for job in self.jobs.values())

    def counts(self) -> Counter[str]:
        """The queue's counters as they must be, without those at 0."""
        return +(self.totals | Counter(bytes=self.num_bytes))

    def pending(self) -> list[str]:
        """Ids in the order of claims."""
        return sorted(
            (name for name, job in self.jobs.items() if job.pending),
            key=lambda name: (self.jobs[name].score, name),
        )

    def died(self) -> dict[str, int]:
        """The time at which each dead letter was given up."""
        return {name: letter.died_ms for name, letter in self.dead_letters.items()}

    def running(self) -> list[str]:
        """Ids of those with a lease or a pause."""
        return sorted(name for name, job in self.jobs.items() if not job.pending)

    def owners(self) -> list[Claim]:
        """The claims that are valid."""
        return [job.owner for job in self.jobs.values() if job.owner is not None]

    def may_be_claimed(self) -> bool:
        """Whether a claim would find a job."""
        return any(job.pending or job.due for job in self.jobs.values())

    def in_use(self, name: str, digest: str | None) -> bool:
        """Whether the name stands for another request: on the queue, answered, or given up."""
        letter = self.dead_letters.get(name)
        given_up = None if letter is None else letter.job
        holder = self.jobs.get(name) or self.joinable(name) or given_up
        return holder is not None and holder.digest not in (None, digest)

    def joinable(self, name: str) -> AnswerModel | None:
        """The answer of that name, unless it says that the job was ended unbegun."""
        answer = self.results.get(name)
        return None if answer is None or answer.payload in (CANCELLED, OVERDUE) else answer

    def enqueue(self, name: str, job: Job, *, run: str, asker: str, max_jobs: int, max_bytes: int) -> str:
        """`taken`, `joined`, `full` or `queued`; joining takes the longer keeping and the later deadline."""
        if self.in_use(name, job.digest):
            return "taken"
        if name in self.jobs:
            there = self.jobs[name]
            there.ask(run, asker)
            there.keep_ms, there.overdue = max(there.keep_ms, job.keep_ms), False
            return "joined"
        if (answer := self.joinable(name)) is not None:
            answer.asks += 1
            answer.keep_ms = max(answer.keep_ms, job.keep_ms)
            return "joined"
        held = self.num_bytes
        if len(self.pending()) >= max_jobs or (held and held + job.num_bytes > max_bytes):
            return "full"
        job.ask(run, asker)
        self.jobs[name] = job
        self.dead_letters.pop(name, None)
        self.results.pop(name, None)
        return "queued"

    def consume(self, name: str) -> None:
        """One of those who asked has read the answer; after the last it is gone."""
        self.results[name].asks -= 1
        if self.results[name].asks <= 0:
            del self.results[name]

    def withdraw(self, name: str, asker: str) -> bool:
        """Whether that ends the job."""
        job = self.jobs[name]
        job.asks[job.askers.pop(asker)] -= 1
        return self.end_unwanted(name)

    def cancel_run(self, run: str) -> tuple[int, int]:
        """How many of its jobs ended, and how many others want."""
        of_run = [name for name, job in self.jobs.items() if job.asks[run]]
        for job in map(self.jobs.__getitem__, of_run):
            job.asks[run] = 0
            job.askers = {asker: other for asker, other in job.askers.items() if other != run}
        ended = sum([self.end_unwanted(name) for name in of_run])
        return ended, len(of_run) - ended

    def end_unwanted(self, name: str) -> bool:
        if self.jobs[name].asks.total():
            return False
        self.end(name, CANCELLED, "cancelled", keep_ms=FAILURE_KEPT_MS)
        return True

    def end_overdue(self, name: str) -> None:
        self.end(name, OVERDUE, "failed", keep_ms=FAILURE_KEPT_MS)

    def free_due(self, now_ms: int) -> None:
        """The next claim of any worker ends every lease and pause that has expired."""
        for job in self.jobs.values():
            if job.due:
                self.free(job, now_ms)

    def free(self, job: Job, now_ms: int) -> None:
        """Its owner died or its pause is over; a job under test is deferred behind others."""
        if job.owner is not None:
            self.totals["lost_leases"] += 1
            job.suspect = True
            job.tries -= 1
        if job.under_test:
            job.move(min(job.score + DEFERRED_MS, now_ms + LATEST_MS))
        job.pending, job.owner, job.due, job.under_test = True, None, False, False

    def next_jobs(self, max_jobs: int, max_bytes: int) -> list[str]:
        """What a claim must return: jobs within the bytes, but at least one; it ends overdue ones."""
        chosen: list[str] = []
        held = 0
        for name in self.pending()[:max_jobs]:
            job = self.jobs[name]
            held += 0 if job.overdue else job.num_bytes
            if chosen and held > max_bytes:
                break
            if job.overdue:
                self.end_overdue(name)
                continue
            chosen.append(name)
        return chosen

    def claimed(self, name: str, claim: Claim) -> None:
        job = self.jobs[name]
        job.tries += 1
        job.pending, job.owner = False, claim

    def owns(self, claim: Claim) -> bool:
        """Whether the claim is the one that may end its job."""
        job = self.jobs.get(claim.job)
        return job is not None and job.owner is claim

    def end(self, name: str, result: bytes, outcome: str, *, keep_ms: int | None = None) -> Job:
        """End the job with this result, for all who asked."""
        job = self.jobs.pop(name)
        keep_ms = job.keep_ms if keep_ms is None else keep_ms
        self.results[name] = AnswerModel(result, job.digest, keep_ms, max(1, job.asks.total()))
        self.totals[outcome] += 1
        return job

    def bury(self, name: str, result: bytes, letter: DeadLetterModel) -> None:
        self.end(name, result, "failed", keep_ms=FAILURE_KEPT_MS)
        self.keep(name, letter)

    def keep(self, name: str, letter: DeadLetterModel) -> None:
        """Keep a dead letter as the newest, and only as many as the limit allows."""
        self.dead_letters.pop(name, None)
        self.dead_letters[name] = letter
        for old in list(self.dead_letters)[:-MAX_DEAD_LETTERS]:
            del self.dead_letters[old]

    def requeue(self, name: str, *, score: int) -> None:
        """Make a dead letter a job without tries; the result that reported its failure is removed."""
        old = self.dead_letters.pop(name).job
        self.results.pop(name, None)
        job = Job(old.payload, old.num_bytes, old.head_start_ms, score, suspect=old.suspect)
        job.digest, job.keep_ms, job.asks, job.askers = old.digest, old.keep_ms, old.asks, old.askers
        job.ask("", "")
        self.jobs[name] = job
