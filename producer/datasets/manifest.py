"""The manifest of a run's output: its identity, and every finished part with counts and checksums."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from producer.datasets.identity import RunIdentity, identity_from_json
from producer.errors import FileError

MANIFEST = "_manifest.json"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedPart:
    """One part of the output, whole and in place.

    It has the rows of `source` from `first_row` up to `next_row`; `is_last` if the source ends there.
    `number` is what the name ends with if an input makes several parts.
    `source_version` and `read` (formats and columns) say what was read. `version` changes with the file's
    content, as the file system tells it. A part without rows has no file and no checksum.
    """

    name: str
    number: int | None
    source: str
    source_version: str
    source_size: int | None
    read: Mapping[str, str]
    first_row: int
    next_row: int
    is_last: bool
    truncate: str
    num_rows: int
    num_tokens: int
    num_truncated: int
    failed: Mapping[str, int]
    profiles: tuple[Mapping[str, str], ...]
    num_bytes: int
    sha256: str
    version: str


@dataclass(slots=True, kw_only=True)
class RunManifest:
    """What an output holds; `parts` by name, `schema` the columns and their types."""

    identity: RunIdentity
    schema: Mapping[str, str] = field(default_factory=dict)
    parts: dict[str, FinishedPart] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """What `manifest_from_json` reads, with the sums over all parts for people."""
        parts = sorted(self.parts.values(), key=lambda part: part.name)
        return {
            "version": _VERSION,
            "identity": self.identity.as_json(),
            "schema": dict(self.schema),
            "num_rows": sum(part.num_rows for part in parts),
            "num_failed": sum(sum(part.failed.values()) for part in parts),
            "num_tokens": sum(part.num_tokens for part in parts),
            "parts": [asdict(part) for part in parts],
        }


def manifest_from_json(fields: Any, location: str) -> RunManifest:
    """Raises FileError if this is not a manifest of ours."""
    try:
        if fields["version"] != _VERSION:
            raise ValueError("another version")
        parts = (part_from_json(part, location) for part in fields["parts"])
        return RunManifest(
            identity=identity_from_json(fields["identity"]),
            schema=fields["schema"],
            parts={part.name: part for part in parts},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FileError(
            f"{location}: not a manifest that this release reads; restore it, or remove the directory"
        ) from error


def part_from_json(fields: Any, location: str) -> FinishedPart:
    """Raises FileError if this is not the record of a part."""
    try:
        return FinishedPart(**{**fields, "profiles": tuple(fields["profiles"])})
    except (KeyError, TypeError) as error:
        raise FileError(
            f"{location}: not the record of a part; restore it, or remove the directory"
        ) from error
