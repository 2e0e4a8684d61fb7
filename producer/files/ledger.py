"""The progress of an unfinished output, kept beside its parts so that the same command can resume."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from producer.atomic import replace_file
from producer.files.totals import Totals

LEDGER_SUFFIX = ".progress"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The state of an unfinished output.

    `identity` is everything that determines the rows; `next_row` the first row of the input that is not done;
    `sizes` the number of valid bytes of each part by its
    suffix to OUT; `description` the result of `Description.state`.
    """

    identity: Mapping[str, str | int | None]
    totals: Totals
    next_row: int
    sizes: Mapping[str, int]
    description: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Replace the file at `path`, whole or not at all. Raises OSError."""
        replace_file(path, json.dumps({"version": _VERSION, **asdict(self)}).encode())


def load_ledger(path: Path) -> Ledger | None:
    """The ledger saved at `path`; None if there is none, or the file is not a ledger."""
    try:
        fields = json.loads(path.read_bytes())
        if fields.pop("version") != _VERSION:
            return None
        return Ledger(**{**fields, "totals": Totals(**fields["totals"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
