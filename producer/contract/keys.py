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
    """The keys and channels of one queue.

    Each docstring has the type, what it holds, and when it ends; the table of
    `docs/reference/redis-keys.md` is made from them. Raises InvalidOption for a prefix with braces.
    """

    queue: str
    prefix: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        # Braces end the prefix: for a cluster's slots, and for the patterns that keep tenants apart.
        if "{" in self.prefix or "}" in self.prefix:
            raise InvalidOption(f"the prefix {self.prefix!r:.80} has braces; choose one without")

    @property
    def root(self) -> str:
        """The prefix of every key of the queue."""
        return f"{self.prefix}:{{{self.queue}}}:"

    @property
    def pending(self) -> str:
        """zset: job id by the score that orders claims: enqueue time, one hour earlier for high and later
        for low priority.
        Ends: when empty, or 8 days after the last job became pending.
        """
        return self.root + "pending"

    @property
    def leases(self) -> str:
        """zset: job id by the server time in ms at which its lease, or its pause before the next try, ends.
        Ends: when empty, or 8 days after the last claim.
        """
        return self.root + "leases"

    def job(self, id: str) -> str:
        """hash: token of the owner, tries, bytes, texts, score, enqueued, keep, deadline; digest of the
        request; `asks` counts the calls that want the job, `run:<name>` those of each run, `run:` those
        without one, and `ask:<name>` is one that waits and may withdraw; `latest` is the last that came; for
        a suspect also `bisection` (what is known) and `under_test` (what runs now).
        Ends: with the job, or a day after its deadline.
        """
        return f"{self.root}job:{id}"

    def request(self, id: str) -> str:
        """string: the encoded request. Ends: with the job, or a day after its deadline."""
        return f"{self.root}request:{id}"

    def result(self, id: str) -> str:
        """string: the encoded answer.
        Ends: after `keep_result_s` (600 s), or once all who asked have consumed it; 60 s if the job failed
        as a whole.
        """
        return f"{self.root}result:{id}"

    @property
    def answers(self) -> str:
        """zset: size in bytes and job id of each answer by the server time in ms at which it ends; these
        sizes count in the limit of bytes.
        Ends: when empty, or 8 days after the last answer.
        """
        return self.root + "answers"

    @property
    def askers(self) -> str:
        """hash: for answers that several calls asked for, how many have not consumed them.
        Ends: when empty, or 8 days after the last such answer.
        """
        return self.root + "askers"

    @property
    def digests(self) -> str:
        """hash: for answers to jobs that their callers named, the digest of the request.
        Ends: when empty, or 8 days after the last such answer.
        """
        return self.root + "digests"

    def staged(self, token: str) -> str:
        """string: a payload in transit, renamed into place by the script that accepts it, or deleted by the
        one that does not.
        Ends: after 180 s if that script never came.
        """
        return f"{self.root}staged:{token}"

    @property
    def totals(self) -> str:
        """hash: bytes of the texts pending or running and of the answers kept; jobs done, failed, cancelled;
        leases lost; the time in ms at which a worker was last heard from.
        Ends: 8 days after a worker served the queue or a job came to an empty one.
        """
        return self.root + "totals"

    @property
    def paused(self) -> str:
        """string: there while the queue is paused: no worker claims a job.
        Ends: when the queue is resumed, or after the time given with the pause.
        """
        return self.root + "paused"

    @property
    def workers(self) -> str:
        """zset: name of each live worker by the server time in ms until which it counts as alive, four
        leases after its last heartbeat.
        Ends: when empty, or 8 days after the last heartbeat.
        """
        return self.root + "workers"

    @property
    def starting(self) -> str:
        """zset: name of each worker that is loading its model, by the server time in ms until which it
        counts; clients wait for it.
        Ends: once all serve, or 60 s after the last announcement.
        """
        return self.root + "starting"

    def worker(self, name: str) -> str:
        """string: the encoded record of a live worker: host, device, profile and why, what it has done.
        Ends: four leases after its last heartbeat.
        """
        return f"{self.root}worker:{name}"

    @property
    def dead_letters(self) -> str:
        """zset: id of each dead letter by the server time in ms at which the job was given up.
        Ends: 7 days after the newest.
        """
        return self.root + "dead"

    def dead_letter(self, id: str) -> str:
        """hash: a dead letter: the job's hash with code, message, died.
        Ends: after 7 days, or once requeued, dropped or evicted by newer ones.
        """
        return f"{self.root}dead:{id}"

    def dead_request(self, id: str) -> str:
        """string: the encoded request of a dead letter. Ends: with the dead letter."""
        return f"{self.root}dead-request:{id}"

    @property
    def vectors(self) -> str:
        """hash: vectors by the hash of their text and model, only with `EMBEDMILL_VECTOR_CACHE=redis`; a
        full one becomes `vectors-old`. Both stay within `EMBEDMILL_VECTOR_CACHE_MB`.
        Ends: 8 days after the last vector.
        """
        return self.root + "vectors"

    @property
    def old_vectors(self) -> str:
        """hash: the vectors before those. Ends: as `vectors` would have, or when replaced."""
        return self.root + "vectors-old"

    def held(self, worker: str) -> str:
        """set: id of each job that is leased to the worker.
        Ends: when empty, or 8 days after its last claim.
        """
        return f"{self.root}held:{worker}"

    @property
    def idle(self) -> str:
        """zset: name of each worker that waits for jobs by how many it holds.
        Ends: when empty, or 8 days after the last worker began to wait.
        """
        return self.root + "idle"

    @property
    def waiting(self) -> str:
        """zset: each client that waits for room by the server time in ms at which it asked.
        Ends: when all were told, or 60 s after the last has asked.
        """
        return self.root + "waiting"

    @property
    def outage(self) -> str:
        """string: there while no lease ends, because no worker was heard from for a whole lease.
        Ends: after two leases.
        """
        return self.root + "outage"

    def notifications(self, client: str) -> str:
        """channel: for one client: `=` and the ids of ended jobs, `+` when the queue has room again."""
        return f"{self.root}notifications:{client}"

    def wakeup(self, worker: str) -> str:
        """channel: for one worker: `+` when there is work, `-` and the id of a job that was cancelled."""
        return f"{self.root}wakeup:{worker}"
