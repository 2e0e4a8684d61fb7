"""How long a job may wait on the queue until it begins; then it is answered, and not embedded in vain."""

from producer.contract import Failure, encode_failure
from producer.errors import InvalidOption

LIFE_S = 7 * 24 * 3600.0  # of a job whose caller names no deadline
MIN_DEADLINE_S = 0.001  # what the server's clock tells apart
DEADLINE_EXCEEDED = Failure(
    code="deadline_exceeded",
    message="no worker had begun the job by its deadline; enqueue it again with a later one, or add workers",
)
OVERDUE = encode_failure(DEADLINE_EXCEEDED)


def check_deadline(deadline_s: float | None) -> float:
    """Within how many seconds the job must begin. Raises InvalidOption."""
    if deadline_s is None:
        return LIFE_S
    if type(deadline_s) not in (int, float) or not MIN_DEADLINE_S <= deadline_s <= LIFE_S:
        raise InvalidOption(
            f"deadline_s must be from {MIN_DEADLINE_S} to {LIFE_S:.0f} (seven days), not {deadline_s!r:.60}"
        )
    return deadline_s
