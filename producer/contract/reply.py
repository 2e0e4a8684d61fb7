"""What a worker answers: one array for all texts, and beside it what happened to single ones."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract.request import TextFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What computed the vectors: enough to know whether two replies may be compared."""

    model: str
    revision: str
    profile_id: str
    profile_name: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """One job's answer.

    `vectors` is (n, dim), or (n, ceil(dim / 8)) for the binary types, in the requested element type;
    the row of a failed text is NaN for float types and 0 for the others. `token_counts` is int32 (n,):
    tokens embedded, after truncation, 0 where failed. `truncated` is the ascending int32 indices of texts
    that were cut. `scale` is what an int8 or uint8 element is multiplied with (after subtracting 128 for
    uint8) to give back the float; None for the other types.
    """

    vectors: npt.NDArray[np.generic]
    failures: tuple[TextFailure, ...]
    token_counts: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.int32]
    scale: float | None
    provenance: Provenance

    @property
    def ok(self) -> bool:
        """True if every text has its vector."""
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The answer to a job that failed as a whole."""

    code: str
    message: str
