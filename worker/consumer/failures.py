"""What is told of jobs and texts that no worker could answer, to their sender and beside the dead letter."""

from collections.abc import Iterable

from producer.contract import Failure, Request, TextFailure, encode_request
from worker.consumer.bisection import Bisection
from worker.consumer.leases import Claim, NewDeadLetter
from worker.telemetry.events import JobEvent

CODE = "killed_worker"
_SUFFIX = "-killers"


def given_up(claim: Claim, *, max_tries: int) -> Failure | None:
    """Why the job is not run again; None if it is."""
    if claim.trial is not None and claim.trial.exhausted:
        reason = (
            f"given up after {claim.num_deaths} deaths of workers that ran it alone, too many to tell "
            "which of its texts are to blame; see `producer dead show`, and send fewer texts in a job"
        )
    elif claim.tries > max_tries:
        reason = (
            f"given up after {claim.tries - 1} tries that ended without an answer; the log of its workers "
            "has the reasons (job_retried), put it back with `producer dead requeue` when they are gone"
        )
    else:
        return None
    return Failure(code="tries_exhausted", message=reason)


def text_failures(job: str, killers: Iterable[int]) -> list[TextFailure]:
    """Why the texts at these indices have no vector."""
    reason = (
        "workers died of it, three times in a row while it ran alone; "
        f"it is kept as dead letter {_letter_id(job)}, change it or leave it out"
    )
    return [TextFailure(at, CODE, f"text {at}: {reason}") for at in killers]


def dead_letter_of(job: str, request: Request, trial: Bisection) -> NewDeadLetter:
    """The job's killers as a request of their own, under an id that comes from the job's."""
    killers = Request(
        model=request.model,
        texts=tuple(request.texts[at] for at in trial.killers),
        options=request.options,
    )
    reason = (
        f"workers died of these {len(trial.killers)} of the {len(request.texts)} texts of job {job}; "
        "look at them with `producer dead show`, and requeue them once workers can take them"
    )
    return NewDeadLetter(
        job=_letter_id(job),
        request=encode_request(killers),
        num_bytes=killers.num_bytes,
        num_texts=len(killers.texts),
        failure=Failure(code=CODE, message=reason),
        tries=trial.num_deaths,
    )


def _letter_id(job: str) -> str:
    """A requeued letter whose texts kill again goes back to where it was."""
    return job if job.endswith(_SUFFIX) else job + _SUFFIX


def failed_event(claim: Claim, failure: Failure) -> JobEvent:
    """The event of a job that ends without an answer of its own."""
    return JobEvent.failed(
        claim.job,
        code=failure.code,
        num_texts=claim.num_texts,
        tries=claim.tries,
        waited_s=claim.waited_s,
    )
