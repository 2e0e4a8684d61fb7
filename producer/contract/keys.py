"""Names of all Redis keys and channels; a hash tag per queue keeps each queue on one shard."""

import hashlib
import re
from dataclasses import dataclass

from producer.errors import InvalidOption

DEFAULT_PREFIX = "embedmill"
FAILURE_KEPT_S = 60.0  # short, so that a failed job enqueued again soon after is run again
DEAD_KEPT_S = 7 * 24 * 3600.0


def queue_name(model: str) -> str:
    """A model's queue: lower case, with `_` in place of all but letters and digits, as NIM names models.

    Raises InvalidOption for an empty name.
    """
    if not model.strip():
        raise InvalidOption("the model's name is empty; give the name that the workers serve")
    return re.sub(r"[^a-z0-9]", "_", model.lower())


def run_name(name: str) -> str:
    """The validated name of a run. Raises InvalidOption."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
        raise InvalidOption(
            f"run {name!r:.80} is not a valid name; use 1 to 64 letters, digits, dots, dashes and underscores"
        )
    return name


def job_name(name: str) -> str:
    """The validated id of a job that a caller names. Raises InvalidOption."""
    if not re.fullmatch(r"[!-~]{1,256}", name):
        raise InvalidOption(
            f"job {name!r:.80} is not a valid id; use 1 to 256 printable ASCII characters without spaces"
        )
    return name


def job_id(payload: bytes) -> str:
    """The deterministic id of a request: 32 hex digits, the same for the same texts, model and options."""
    return hashlib.blake2b(payload, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys and channels of one queue; `docs/reference/redis-keys.md` lists their types and lifetimes."""

    queue: str
    prefix: str = DEFAULT_PREFIX

    @property
    def root(self) -> str:
        """The prefix of every key of the queue."""
        return f"{self.prefix}:{{{self.queue}}}:"

    @property
    def pending(self) -> str:
        """zset: job id by the score that orders claims."""
        return self.root + "pending"

    @property
    def leases(self) -> str:
        """zset: job id by the server time in ms at which its lease ends."""
        return self.root + "leases"

    @property
    def totals(self) -> str:
        """hash: counters of the queue (bytes pending or running; jobs and leases by outcome)."""
        return self.root + "totals"

    @property
    def workers(self) -> str:
        """zset: name of each live worker by the server time in ms until which it counts as alive."""
        return self.root + "workers"

    @property
    def starting(self) -> str:
        """zset: name of each worker that is starting by the server time in ms until which it counts."""
        return self.root + "starting"

    def worker(self, name: str) -> str:
        """string: the encoded record of a live worker."""
        return f"{self.root}worker:{name}"

    @property
    def dead_letters(self) -> str:
        """zset: id of each dead letter by the server time in ms at which the job was given up."""
        return self.root + "dead"

    def dead_letter(self, job: str) -> str:
        """hash: a dead letter: the job's hash, with the code, message and time of its failure."""
        return f"{self.root}dead:{job}"

    def dead_request(self, job: str) -> str:
        """string: the encoded request of a dead letter."""
        return f"{self.root}dead-request:{job}"

    def held(self, worker: str) -> str:
        """set: id of each job that is leased to the worker."""
        return f"{self.root}held:{worker}"

    @property
    def idle(self) -> str:
        """zset: name of each worker that waits for jobs by how many it holds."""
        return self.root + "idle"

    @property
    def waiting(self) -> str:
        """zset: each client that waits for room by the server time in ms at which it asked."""
        return self.root + "waiting"

    @property
    def outage(self) -> str:
        """string: there while no lease ends, because no worker was heard from for a whole lease."""
        return self.root + "outage"

    def notifications(self, client: str) -> str:
        """Channel of one client: `=` and the ids of ended jobs, `+` when the queue has room again."""
        return f"{self.root}notifications:{client}"

    def wakeup(self, worker: str) -> str:
        """Channel of one worker: `+` when there is work, `-` and the id of a job that was cancelled."""
        return f"{self.root}wakeup:{worker}"

    def job(self, job: str) -> str:
        """hash: the job's owner token, tries, bytes and score, and the runs that want it."""
        return f"{self.root}job:{job}"

    def request(self, job: str) -> str:
        """string: the encoded request."""
        return f"{self.root}request:{job}"

    def result(self, job: str) -> str:
        """string: the encoded result, until it expires or is consumed."""
        return f"{self.root}result:{job}"

    def staged(self, token: str) -> str:
        """string: a payload in transit, renamed into place by the script that accepts it."""
        return f"{self.root}staged:{token}"
