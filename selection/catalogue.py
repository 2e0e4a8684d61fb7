"""Lists the models that have a manifest: a table for people, JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from selection.manifests.manifest import Manifest

_HEADINGS = ("model", "family", "dim", "tokens", "revision", "golden", "profiles")
_UNKNOWN = "-"
_SHORT = 12  # digits of a commit that people read


def model_listing(manifests: Iterable[Manifest]) -> str:
    """The table, sorted by name; ends with a newline. A revision is shortened, and `-` is unknown."""
    rows = sorted((_row(each) for each in manifests), key=lambda row: row[0].lower())
    widths = [max(map(len, column)) for column in zip(_HEADINGS, *rows, strict=True)]
    return "".join(f"{_line(row, widths)}\n" for row in (_HEADINGS, *rows))


def model_listing_json(manifests: Iterable[Manifest]) -> str:
    """The same as a JSON list, with all that the manifests say; docs/reference/json.md describes its keys."""
    objects = sorted((_object(each) for each in manifests), key=lambda each: str(each["name"]).lower())
    return json.dumps(objects, indent=2, ensure_ascii=False) + "\n"


def _row(manifest: Manifest) -> tuple[str, ...]:
    model = manifest.model
    return (
        model.name,
        model.family or _UNKNOWN,
        str(model.dimension or _UNKNOWN),
        str(model.max_text_tokens or _UNKNOWN),
        (model.revision or _UNKNOWN)[:_SHORT],
        "yes" if model.golden else "no",
        ", ".join(manifest.sets),
    )


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _object(manifest: Manifest) -> dict[str, Any]:
    model = manifest.model
    return {
        "name": model.name,
        "aliases": list(model.aliases),
        "family": model.family,
        "dimension": model.dimension,
        "matryoshka": list(model.matryoshka),
        "max_text_tokens": model.max_text_tokens,
        "num_parameters": model.num_parameters,
        "revision": model.revision,
        "weights_sha256": model.weights_sha256,
        "sources": list(model.sources),
        "prompts": dict(model.prompts),
        "input_types": dict(model.input_types),
        "golden": model.golden is not None,
        "sets": list(manifest.sets),
    }
