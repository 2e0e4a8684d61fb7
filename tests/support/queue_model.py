"""A model of the queue in plain Python, which the state machine compares the server with."""

from collections import Counter
from dataclasses import dataclass, field

from producer.queue.cancel import CANCELLED
from worker.consumer.leases import Claim

HEAD_START_MS = {"high": 3_600_000, "normal": 0, "low": -3_600_000}
MAX_DEAD_LETTERS = 1
DEFERRED_MS = 10_000
LATEST_MS = 3_600_000  # from now: no job is deferred behind jobs of low priority that come now


@dataclass(slots=True)
class Job:
    """A job on the queue: pending, leased (`owner`), or pausing (neither); `due` once its time is over.

    A `suspect` was held by a worker that died; `under_test` if its owner has marked texts of it.
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
class Model:
    """One queue. Claims are compared by identity, whatever their tokens say."""

    jobs: dict[str, Job] = field(default_factory=dict)
    results: dict[str, bytes] = field(default_factory=dict)
    dead_letters: dict[str, DeadLetterModel] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)

    @property
    def num_bytes(self) -> int:
        return sum(job.num_bytes for job in self.jobs.values())

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

    def enqueue(self, name: str, job: Job, *, max_jobs: int, max_bytes: int) -> str:
        """`joined`, `full` or `queued`; a `cancelled` result cannot be joined."""
        if name in self.jobs or self.results.get(name, CANCELLED) != CANCELLED:
            return "joined"
        held = self.num_bytes
        if len(self.pending()) >= max_jobs or (held and held + job.num_bytes > max_bytes):
            return "full"
        self.jobs[name] = job
        self.dead_letters.pop(name, None)
        self.results.pop(name, None)
        return "queued"

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
        """What a claim must return: jobs within the bytes, but at least one."""
        chosen: list[str] = []
        held = 0
        for name in self.pending()[:max_jobs]:
            held += self.jobs[name].num_bytes
            if chosen and held > max_bytes:
                break
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

    def end(self, name: str, result: bytes, outcome: str) -> Job:
        """End the job with this result."""
        assert name not in self.results
        self.results[name] = result
        self.totals[outcome] += 1
        return self.jobs.pop(name)

    def bury(self, name: str, result: bytes, letter: DeadLetterModel) -> None:
        self.end(name, result, "failed")
        self.keep(name, letter)

    def keep(self, name: str, letter: DeadLetterModel) -> None:
        """Keep a dead letter as the newest, and only as many as the limit allows."""
        self.dead_letters.pop(name, None)
        self.dead_letters[name] = letter
        for old in list(self.dead_letters)[:-MAX_DEAD_LETTERS]:
            del self.dead_letters[old]

    def requeue(self, name: str, *, score: int) -> None:
        """Make a dead letter a job without tries; the result that reported its failure is removed."""
        job = self.dead_letters.pop(name).job
        self.results.pop(name, None)
        self.jobs[name] = Job(job.payload, job.num_bytes, job.head_start_ms, score, suspect=job.suspect)
