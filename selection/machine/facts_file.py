"""Reads and writes facts as JSON: for `--facts FILE`, to choose for another machine, and in the listing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from selection.machine.facts import Facts, Plan, format_capability, parse_capability

_Part = TypeVar("_Part", Facts, Plan)


class FactsError(ValueError):
    """A facts file that cannot be read: names the file and the key, and says what belongs there."""


def facts_to_dict(facts: Facts) -> dict[str, Any]:
    """Facts as JSON-compatible values: capabilities as text (`9.0`), features sorted."""
    return _written(facts)


def load_facts(path: Path) -> Facts:
    """The machine described in `path`: the keys of `Facts`, of which only `cpu.architecture` is required.

    Raises FactsError.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FactsError(f"{path}: cannot be read: {error}") from error
    try:
        return _read(content, Facts)
    except ValueError as error:
        raise FactsError(f"{path}: not a description of a machine: {error}") from error


def plan_from_dict(content: object) -> Plan:
    """The plan that one JSON object of the cache describes. Raises ValueError if it describes none."""
    return _read(content, Plan)


def _written(part: Facts | Plan) -> dict[str, Any]:
    written: dict[str, Any] = _with_capability(
        msgspec.to_builtins(part, order="deterministic"), format_capability
    )
    return written


def _read(content: object, kind: type[_Part]) -> _Part:
    """Raises ValueError with the path of the key."""
    part = msgspec.convert(_with_capability(content, parse_capability), kind)
    _refuse_unknown(content, _written(part), at="$")
    return part


def _with_capability(content: object, convert: Callable[[Any], object]) -> Any:
    """The same with each capability converted: text in JSON, a pair of numbers here."""
    if isinstance(content, dict):
        return {
            key: convert(value)
            if key == "capability" and value is not None
            else _with_capability(value, convert)
            for key, value in content.items()
        }
    return (
        [_with_capability(each, convert) for each in content]
        if isinstance(content, list | tuple)
        else content
    )


def _refuse_unknown(content: object, known: Any, *, at: str) -> None:
    """Raises ValueError for a key that is not known: msgspec ignores such keys of a dataclass."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key not in known:
                raise ValueError(f"{key} is not a key of `{at}`; known are {', '.join(known)}")
            _refuse_unknown(value, known[key], at=f"{at}.{key}")
    elif isinstance(content, list) and len(content) == len(known):
        for index, value in enumerate(content):
            _refuse_unknown(value, known[index], at=f"{at}[{index}]")
