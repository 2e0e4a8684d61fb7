"""What a worker process answers when its parent asks how it is: its state, its profile and its counters."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

# `disconnected`: Redis does not answer, so it holds no lease. `hung`: its event loop does not answer.
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
    """The report as JSON on one line, without the line's end."""
    return msgspec.json.encode(report)


def decode_report(line: bytes) -> Report:
    """The report that a worker process of ours encoded; raises msgspec.ValidationError for anything else."""
    return _decoder.decode(line)
