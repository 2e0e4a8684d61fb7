"""Generates profiles/schema.json and docs/reference/manifest.md from the models of our manifest files.

Run `python -m selection.manifests.reference` in a checkout after changing `manifest_schema.py`.
"""

import inspect
import json
from pathlib import Path

from pydantic import BaseModel, TypeAdapter

from selection.manifests.manifest_file import shipped_profiles
from selection.manifests.manifest_schema import (
    InputTypesSection,
    ManifestFile,
    ModelSection,
    ProfileSection,
    RequiresSection,
    SetFile,
)

_INTRODUCTION = """\
# Manifest reference

Generated from `selection/manifests/manifest_schema.py`; do not edit.

A manifest is a YAML file, one per model: it says what the model is and lists its profiles, the ways to run
it. The JSON Schema `profiles/schema.json` gives editors the same rules. A file that breaks them is refused
with an error that names the file, line and key. A key without a value counts as left out.
"""
_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("A manifest", ManifestFile),
    ("A set", SetFile),
    ("`model`", ModelSection),
    ("`input_types`", InputTypesSection),
    ("An entry of `profiles`", ProfileSection),
    ("`requires`", RequiresSection),
)


def schema_json() -> str:
    """The JSON Schema of manifests and sets, as profiles/schema.json holds it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Embedmill manifest, or a set of profiles for one",
        **TypeAdapter(ManifestFile | SetFile).json_schema(),
    }
    return json.dumps(schema, indent=2) + "\n"


def reference_page() -> str:
    """The reference of manifests in Markdown, as docs/reference/manifest.md holds it."""
    return "\n".join((_INTRODUCTION, *("\n".join(_table(title, model)) for title, model in _TABLES)))


def _table(title: str, model: type[BaseModel]) -> list[str]:
    rows = [
        f"| `{field.alias or name}` | {'yes' if field.is_required() else ''} | {field.description} |"
        for name, field in model.model_fields.items()
    ]
    heading = ["| key | required | meaning |", "|---|---|---|"]
    return [f"## {title}", "", inspect.getdoc(model) or "", "", *heading, *rows, ""]


def write_reference() -> None:
    """Write both files."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "manifest.md"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(reference_page(), encoding="utf-8")
    (shipped_profiles() / "schema.json").write_text(schema_json(), encoding="utf-8")


if __name__ == "__main__":
    write_reference()
