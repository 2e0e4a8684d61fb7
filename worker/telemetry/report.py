"""The report that a worker process sends its parent on request: its state, profile and counters."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

# `disconnected`: Redis does not answer, so it holds no lease. `hung`: a stage or its loop does not move.
State = Literal["serving", "disconnected", "hung"]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One worker process at one moment.

    `profile` maps labels to values, `profiles_failed` has names, and `numbers` has each field of
    `worker.telemetry.counters.Counters`.
    """

    state: State
    profile: Mapping[str, str]
    profiles_failed: tuple[str, ...]
    numbers: Mapping[str, Any]


_decoder = msgspec.json.Decoder(Report)


def encode_report(report: Report) -> bytes:
    """Encode a report as one line of JSON, without the line break."""
    return msgspec.json.encode(report)


def decode_report(line: bytes) -> Report:
    """Decode a report that `encode_report` made; raises msgspec.ValidationError for anything else."""
    return _decoder.decode(line)
