"""The reply to a job: one array for all texts, and which of them failed or were truncated."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.contract.request import TextFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What computed the vectors; shows whether the vectors of two replies can be compared."""

    model: str
    revision: str
    profile_id: str
    profile_name: str
    precision: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reply:
    """The answer to one job.

    `vectors` is (n, dim), or (n, ceil(dim / 8)) for the binary types, in the requested element type;
    the row of a failed text is NaN for float types and 0 for the others. `token_counts` is int32 (n,):
    tokens embedded, after truncation, 0 where failed. `truncated` holds the ascending int32 indices of
    truncated texts. Multiply an int8 or uint8 element by `scale` (after subtracting 128 for uint8) to restore
    the float; `scale` is None for the other types. `prompt_name` is the name of the model's prompt that was
    put before each text, None if none was.
    """

    vectors: npt.NDArray[np.generic]
    failures: tuple[TextFailure, ...]
    token_counts: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.int32]
    scale: float | None
    provenance: Provenance
    prompt_name: str | None = None

    @property
    def ok(self) -> bool:
        """True if every text has a vector."""
        return not self.failures


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The answer to a job that failed as a whole."""

    code: str
    message: str
