"""YAML as plain data with a map from each value's location to its line, for errors that name both."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from selection.manifests.manifest import ManifestError

Location = tuple[str | int, ...]
_MAX_DEPTH = 64
#: Aliases can make a short file expand without end.
_MAX_VALUES = 200_000


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML file: mappings, lists and None as such, every other scalar as its literal text.

    Text, because YAML would guess that the capability 9.0 is a number and the tag yes is True.
    `lines` has the line of each value, `key_lines` that of the key before it.
    """

    path: Path
    data: object
    lines: Mapping[Location, int]
    key_lines: Mapping[Location, int]

    def line(self, location: Location) -> int:
        """The line of the value at the location, or of the nearest one that holds it."""
        return self.lines.get(location) or (self.line(location[:-1]) if location else 1)

    def fail(self, location: Location, sentence: str, *, at_key: bool = False) -> NoReturn:
        """Raise ManifestError: `file:line: key: sentence`."""
        line = self.key_lines[location] if at_key else self.line(location)
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
        where = f"{self.path}:{line}"
        raise ManifestError(
            f"{where}: {key.removeprefix('.')}: {sentence}" if key else f"{where}: {sentence}"
        )


def read_yaml(path: Path) -> Document:
    """The document in `path`. Raises ManifestError if it cannot be read or is not YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ManifestError(f"{path}:{line}: is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: is not YAML: {error}") from error
    if node is None:
        raise ManifestError(f"{path}:1: is empty; a manifest has the keys schema, model and profiles")
    return _Reading(path).document(node)


class _Reading:
    def __init__(self, path: Path) -> None:
        self._lines: dict[Location, int] = {}
        self._key_lines: dict[Location, int] = {}
        self._document = Document(path, None, self._lines, self._key_lines)

    def document(self, node: yaml.Node) -> Document:
        data = self._value(node, ())
        return Document(self._document.path, data, self._lines, self._key_lines)

    def _value(self, node: yaml.Node, at: Location) -> object:
        self._lines[at] = node.start_mark.line + 1
        if len(at) > _MAX_DEPTH or len(self._lines) > _MAX_VALUES:
            self._document.fail(at[:1], "is nested too deeply or has too many values for a manifest")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(each, (*at, index)) for index, each in enumerate(node.value)]
        return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)

    def _mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, object]:
        found: dict[str, object] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            here = (*at, key)
            self._key_lines[here] = key_node.start_mark.line + 1
            if key in found:
                self._document.fail(here, "is given twice", at_key=True)
            found[key] = self._value(value_node, here)
        return found
