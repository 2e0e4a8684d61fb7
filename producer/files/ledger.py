"""How far an unfinished output is: kept beside its parts, so that the same command goes on from there."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from producer.files.part_file import PartFile
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
        """Replace the file at `path`, whole or not at all. Raises OSError, or FileError as `PartFile`."""
        part = PartFile(path)
        try:
            part.cut(0)
            part.stream.write(json.dumps({"version": _VERSION, **asdict(self)}).encode())
            part.seal()
            part.publish()
        finally:
            part.discard()


def load_ledger(path: Path) -> Ledger | None:
    """What was saved there; None if there is nothing, or nothing of ours."""
    try:
        fields = json.loads(path.read_bytes())
        if fields.pop("version") != _VERSION:
            return None
        return Ledger(**{**fields, "totals": Totals(**fields["totals"])})
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
