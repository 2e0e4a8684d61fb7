"""How far an unfinished output is: kept beside its parts, so that the same command goes on from there."""

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
    """`identity` is what the run was asked; `sizes` the bytes that count of each part, by what OUT's name
    has behind it; `description` what `Description.state` gave.
    """

    identity: Mapping[str, str | int | None]
    totals: Totals
    sizes: Mapping[str, int]
    description: Mapping[str, Any]

    def save(self, path: Path) -> None:
        """Put it there whole; an older one stays until then. Raises OSError."""
        replace_file(path, json.dumps({"version": _VERSION, **asdict(self)}).encode())


def load_ledger(path: Path) -> Ledger | None:
    """What was saved there; None if there is nothing, or nothing of ours."""
    try:
        fields = json.loads(path.read_bytes())
        if fields.pop("version") != _VERSION:
            return None
        return Ledger(**{**fields, "totals": Totals(**fields["totals"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
