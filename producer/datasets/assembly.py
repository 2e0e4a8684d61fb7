"""Puts the reply for the rows that were embedded together with the vectors of those that were before."""

import re
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.contract import Provenance, Reply, TextFailure
from producer.datasets.digests import TRUNCATED, RowFacts
from producer.datasets.earlier import EarlierVectors
from producer.datasets.identity import FoundIdentity
from producer.files import RowBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """RowFacts that are written together: `texts` are those of `rows` that have to be embedded.

    `earlier` has for each row its number in the earlier vectors, -1 for those in `texts`. `rows` is in pieces
    where rows of the input are left out between them; `digests` are of all rows.
    """

    rows: list[RowBatch]
    digests: RowFacts
    earlier: npt.NDArray[np.int64]
    texts: list[Any] = field(repr=False)

    @property
    def num_rows(self) -> int:
        """RowFacts to write."""
        return len(self.earlier)


def assemble(
    span: Span,
    reply: Reply | None,
    earlier: EarlierVectors,
    *,
    found: FoundIdentity | None,
    source: Provenance | None,
) -> Reply:
    """One reply for all rows of the span; `source` computed the earlier vectors, of the identity `found`."""
    if reply is not None and len(span.texts) == span.num_rows:
        return reply
    assert found is not None
    is_earlier = span.earlier >= 0
    vectors = np.empty((span.num_rows, found.dimensions), found.element_type)
    counts = np.zeros(span.num_rows, np.int32)
    truncated = np.zeros(span.num_rows, np.bool_)
    taken, facts = earlier.take(span.earlier[is_earlier])
    vectors[is_earlier], counts[is_earlier] = taken, facts["tokens"]
    truncated[is_earlier] = facts["flags"] & TRUNCATED != 0
    if reply is None:
        assert source is not None
        reply = _no_reply(found, source)
    at = np.nonzero(~is_earlier)[0]
    vectors[at], counts[at] = reply.vectors, reply.token_counts
    truncated[at[reply.truncated]] = True
    failures = tuple(_moved(failure, int(at[failure.index])) for failure in reply.failures)
    return replace(
        reply,
        vectors=vectors,
        failures=failures,
        token_counts=counts,
        truncated=np.nonzero(truncated)[0].astype(np.int32),
    )


def slice_reply(reply: Reply, start: int, end: int) -> Reply:
    """The reply for the rows from `start` up to `end`."""
    if (start, end) == (0, len(reply.vectors)):
        return reply
    truncated = reply.truncated[(reply.truncated >= start) & (reply.truncated < end)] - start
    failures = tuple(
        _moved(failure, failure.index - start) for failure in reply.failures if start <= failure.index < end
    )
    return replace(
        reply,
        vectors=reply.vectors[start:end],
        token_counts=reply.token_counts[start:end],
        truncated=truncated,
        failures=failures,
    )


def _moved(failure: TextFailure, index: int) -> TextFailure:
    """The failure of the text that is now at `index`, in its sentence too."""
    message = re.sub(rf"\btext {failure.index}\b", f"text {index}", failure.message, count=1)
    return replace(failure, index=index, message=message)


def _no_reply(found: FoundIdentity, source: Provenance) -> Reply:
    nothing = np.empty(0, np.int32)
    return Reply(
        vectors=np.empty((0, found.dimensions), found.element_type),
        failures=(),
        token_counts=nothing,
        truncated=nothing,
        scale=found.scale,
        provenance=source,
        prompt_name=found.prompt_name,
    )
