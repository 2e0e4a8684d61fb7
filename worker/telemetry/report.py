"""What a worker process answers when its parent asks how it is: its state, its profile and its numbers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

# `disconnected`: Redis does not answer, so it holds no lease. `hung`: its event loop does not answer.
State = Literal["serving", "disconnected", "hung"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One worker process at one moment: labels of its profile, and the numbers of its tally."""

    state: State
    profile: Mapping[str, str]
    profiles_failed: tuple[str, ...]
    numbers: Mapping[str, Any]


def encode_report(report: Report) -> bytes:
    """One line of JSON, without its end."""
    return json.dumps(asdict(report)).encode()


def decode_report(line: bytes) -> Report:
    """The report in a line that a worker process of ours wrote."""
    fields = json.loads(line)
    return Report(**{**fields, "profiles_failed": tuple(fields["profiles_failed"])})
