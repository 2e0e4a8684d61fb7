"""YAML that knows where it stands: every value can say its file, line and key when it is wrong."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import yaml

from selection.manifests.manifest import ManifestError


def read_yaml(path: Path) -> "Value":
    """The document in `path`. Raises ManifestError if it cannot be read or is no YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    try:
        node = yaml.compose(text, Loader=yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ManifestError(f"{path}:{line}: is no YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ManifestError(f"{path}: is no YAML: {error}") from error
    if node is None:
        raise ManifestError(f"{path}:1: is empty; a manifest has the keys schema, model and profiles")
    return Value(node, path, "")


@dataclass(frozen=True, slots=True)
class Value:
    """One node of a document; its readers return what was asked for or raise ManifestError."""

    node: yaml.Node
    path: Path
    key: str

    def fail(self, what: str) -> NoReturn:
        """Raise ManifestError with this value's file, line and key."""
        where = f"{self.path}:{self.node.start_mark.line + 1}"
        raise ManifestError(f"{where}: {self.key}: {what}" if self.key else f"{where}: {what}")

    def fields(self, known: Sequence[str] | None = None) -> "Fields":
        """A mapping's values by key; a key twice or (with `known`) an unknown key is refused."""
        if not isinstance(self.node, yaml.MappingNode):
            self.fail("must be a mapping of keys to values")
        found = Fields()
        for key_node, value_node in self.node.value:
            name = str(key_node.value)
            value = Value(value_node, self.path, f"{self.key}.{name}" if self.key else name)
            at_key = Value(key_node, self.path, value.key)
            if name in found:
                at_key.fail("is given twice")
            if known is not None and name not in known:
                at_key.fail(f"is no key here; known are {', '.join(known)}")
            found[name] = value
        return found

    def items(self) -> Iterator["Value"]:
        """A sequence's values."""
        if not isinstance(self.node, yaml.SequenceNode):
            self.fail("must be a list")
        for index, node in enumerate(self.node.value):
            yield Value(node, self.path, f"{self.key}[{index}]")

    @property
    def is_null(self) -> bool:
        """True for an empty value or `null`."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == "tag:yaml.org,2002:null"

    def text(self, among: Sequence[str] = ()) -> str:
        """A scalar as text, one of `among` where that is given."""
        if not isinstance(self.node, yaml.ScalarNode) or self.is_null:
            self.fail("must be a text")
        value = str(self.node.value)
        if among and value not in among:
            self.fail(f"must be one of {', '.join(among)}, not {value!r:.60}")
        return value

    def texts(self, among: Sequence[str] = ()) -> tuple[str, ...]:
        """A list of texts, as a tuple."""
        return tuple(item.text(among) for item in self.items())

    def count(self) -> int:
        """A whole number above zero."""
        text = self.text().replace("_", "")
        if not (text.isascii() and text.isdecimal()) or int(text) == 0:
            self.fail(f"must be a whole number above 0, not {text!r:.60}")
        return int(text)

    def fraction(self) -> float:
        """A number above 0 and at most 1."""
        text = self.text()
        try:
            value = float(text)
        except ValueError:
            self.fail(f"must be a number above 0 and at most 1, not {text!r:.60}")
        if not 0 < value <= 1:
            self.fail(f"must be a number above 0 and at most 1, not {text!r:.60}")
        return value


class Fields(dict[str, Value]):
    """A mapping's values by key, with readers for keys that may be absent."""

    def given(self) -> "Fields":
        """Those that are not null."""
        return Fields({key: value for key, value in self.items() if not value.is_null})

    def text(self, key: str) -> str | None:
        """The text under `key`, or None without it."""
        return self[key].text() if key in self else None

    def texts(self, key: str, among: Sequence[str] = ()) -> tuple[str, ...]:
        """The list of texts under `key`, empty without it."""
        return self[key].texts(among) if key in self else ()

    def count(self, key: str) -> int | None:
        """The whole number above zero under `key`, or None without it."""
        return self[key].count() if key in self else None
