"""What the queue promises, as plain Python: the model that the state machine holds the server against."""

from collections import Counter
from dataclasses import dataclass, field

from producer.queue.cancel import CANCELLED
from worker.consumer.leases import Claim

HEAD_START_MS = {"high": 3_600_000, "normal": 0, "low": -3_600_000}
MAX_LETTERS = 1
DEFERRED_MS = 10_000
LATEST_MS = 3_600_000  # from now: nothing is put behind jobs of low priority that come now


@dataclass(slots=True)
class Job:
    """A job on the queue: waiting, leased (`owner`), or pausing (neither); `due` once its time is over.

    A `suspect` was held by a worker that died; `under_test` is what of it runs now, if its owner said so.
    """

    payload: bytes
    num_bytes: int
    head_start_ms: int
    score: int
    tries: int = 0
    waiting: bool = True
    owner: Claim | None = None
    due: bool = False
    suspect: bool = False
    under_test: bool = False

    def move(self, score: int) -> None:
        """To another place in the order, which it keeps as a head start when it is requeued."""
        self.head_start_ms -= score - self.score
        self.score = score


@dataclass(slots=True)
class Letter:
    """A job that was given up, when, and what is told of it."""

    job: Job
    died_ms: int
    code: str
    tries: int


@dataclass(slots=True)
class Model:
    """One queue. Claims are compared by identity, whatever their tokens say."""

    jobs: dict[str, Job] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    letters: dict[str, Letter] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)

    @property
    def num_bytes(self) -> int:
        return sum(job.num_bytes for job in self.jobs.values())

    def counts(self) -> Counter[str]:
        """What the queue's counters must say, those at 0 left out."""
        return +(self.totals | Counter(bytes=self.num_bytes))

    def waiting(self) -> list[str]:
        """Ids in the order of claims."""
        return sorted(
            (name for name, job in self.jobs.items() if job.waiting),
            key=lambda name: (self.jobs[name].score, name),
        )

    def died(self) -> dict[str, int]:
        """When each dead letter was given up."""
        return {name: letter.died_ms for name, letter in self.letters.items()}

    def running(self) -> list[str]:
        """Ids of those with a lease or a pause."""
        return sorted(name for name, job in self.jobs.items() if not job.waiting)

    def owners(self) -> list[Claim]:
        """The claims that hold."""
        return [job.owner for job in self.jobs.values() if job.owner is not None]

    def may_be_claimed(self) -> bool:
        """True if a claim would find a job."""
        return any(job.waiting or job.due for job in self.jobs.values())

    def enqueue(self, name: str, job: Job, *, max_jobs: int, max_bytes: int) -> str:
        """`joined`, `full` or `queued`; an answer that says `cancelled` is nothing to join."""
        if name in self.jobs or self.answers.get(name, CANCELLED) != CANCELLED:
            return "joined"
        held = self.num_bytes
        if len(self.waiting()) >= max_jobs or (held and held + job.num_bytes > max_bytes):
            return "full"
        self.jobs[name] = job
        self.letters.pop(name, None)
        self.answers.pop(name, None)
        return "queued"

    def free_due(self, now_ms: int) -> None:
        """Every lease and pause that ran out ends with the next claim of anybody."""
        for job in self.jobs.values():
            if job.due:
                self.free(job, now_ms)

    def free(self, job: Job, now_ms: int) -> None:
        """Its owner died, or its pause is over; what was under test comes behind others."""
        if job.owner is not None:
            self.totals["lost_leases"] += 1
            job.suspect = True
            job.tries -= 1
        if job.under_test:
            job.move(min(job.score + DEFERRED_MS, now_ms + LATEST_MS))
        job.waiting, job.owner, job.due, job.under_test = True, None, False, False

    def next_jobs(self, max_jobs: int, max_bytes: int) -> list[str]:
        """What a claim must give: within the bytes, but at least one."""
        chosen: list[str] = []
        held = 0
        for name in self.waiting()[:max_jobs]:
            held += self.jobs[name].num_bytes
            if chosen and held > max_bytes:
                break
            chosen.append(name)
        return chosen

    def claimed(self, name: str, claim: Claim) -> None:
        job = self.jobs[name]
        job.tries += 1
        job.waiting, job.owner = False, claim

    def owns(self, claim: Claim) -> bool:
        """True if the claim is the one that may end its job."""
        job = self.jobs.get(claim.job)
        return job is not None and job.owner is claim

    def answer(self, name: str, answer: bytes, fate: str) -> Job:
        """The job leaves the queue with this answer."""
        assert name not in self.answers
        self.answers[name] = answer
        self.totals[fate] += 1
        return self.jobs.pop(name)

    def bury(self, name: str, answer: bytes, letter: Letter) -> None:
        self.answer(name, answer, "failed")
        self.keep(name, letter)

    def keep(self, name: str, letter: Letter) -> None:
        """Among the newest letters, the last."""
        self.letters.pop(name, None)
        self.letters[name] = letter
        for old in list(self.letters)[:-MAX_LETTERS]:
            del self.letters[old]

    def requeue(self, name: str, *, score: int) -> None:
        """A letter becomes a job without tries; the answer that told of its failure goes."""
        job = self.letters.pop(name).job
        self.answers.pop(name, None)
        self.jobs[name] = Job(job.payload, job.num_bytes, job.head_start_ms, score, suspect=job.suspect)
