"""Failures of jobs and texts that no worker could compute, as sent to the client and kept as dead letters."""

from collections.abc import Iterable

from producer.contract import Failure, Request, TextFailure, encode_request
from worker.consumer.bisection import Bisection
from worker.consumer.leases import Claim, NewDeadLetter

CODE = "killed_worker"
_SUFFIX = "-killers"


def failure_if_exhausted(claim: Claim, *, max_tries: int) -> Failure | None:
    """The failure of a job that must not run again; None if it may."""
    if claim.bisection is not None and claim.bisection.exhausted:
        reason = (
            f"given up after {claim.num_deaths} deaths of workers that ran it alone, too many to find the "
            "texts to blame; inspect it with `producer dead show`, and send fewer texts per job"
        )
    elif claim.tries > max_tries:
        reason = (
            f"given up after {claim.tries - 1} tries that ended without a result; see the reasons in "
            "the workers' logs (job_retried), and run `producer dead requeue` once they are fixed"
        )
    else:
        return None
    return Failure(code="tries_exhausted", message=reason)


def answer_refused(error: Exception) -> Failure:
    """The failure of a job whose answer Redis does not take."""
    reason = (
        f"Redis did not take its answer ({error}); send fewer texts in a job, ask for fewer dimensions or a "
        "smaller embedding_type, or raise the server's proto-max-bulk-len"
    )
    return Failure(code="answer_refused", message=reason)


def internal_error(error: Exception) -> Failure:
    """The failure of a job that met a bug of ours, or data in Redis that nobody of us wrote."""
    return Failure(code="internal_error", message=f"{type(error).__name__}: {error}")


def text_failures(job: str, killers: Iterable[int]) -> list[TextFailure]:
    """The failures of the texts at these indices, which kill workers."""
    reason = (
        "it killed three workers in a row while it ran alone; "
        f"it is kept as dead letter {_dead_letter_id(job)}; change the text or leave it out"
    )
    return [TextFailure(at, CODE, f"text {at}: {reason}") for at in killers]


def dead_letter_of(job: str, request: Request, bisection: Bisection) -> NewDeadLetter:
    """The dead letter that holds the job's killer texts, under an id derived from the job's."""
    killers = Request(
        model=request.model,
        texts=tuple(request.texts[at] for at in bisection.killers),
        options=request.options,
    )
    reason = (
        f"these {len(bisection.killers)} of the {len(request.texts)} texts of job {job} killed workers; "
        "inspect them with `producer dead show`, and requeue them once workers can run them"
    )
    return NewDeadLetter(
        job=_dead_letter_id(job),
        request=encode_request(killers),
        num_bytes=killers.num_bytes,
        num_texts=len(killers.texts),
        failure=Failure(code=CODE, message=reason),
        tries=bisection.num_deaths,
    )


def _dead_letter_id(job: str) -> str:
    """Derive the id; a requeued dead letter whose texts kill again keeps its own."""
    return job if job.endswith(_SUFFIX) else job + _SUFFIX
