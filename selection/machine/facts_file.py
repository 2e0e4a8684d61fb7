"""Facts as JSON: for `--facts FILE`, which plans for machines elsewhere, and inside the JSON listing."""

import json
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from selection.machine.facts import Capability, Cpu, Facts, Gpu, HiddenGpu, Plan, Runtime


class FactsError(ValueError):
    """A facts file that cannot be read: says the file, the key and what belongs there."""


_Part = TypeVar("_Part", Cpu, Gpu, HiddenGpu, Runtime, Plan, Facts)


def facts_to_dict(facts: Facts) -> dict[str, Any]:
    """Facts as what JSON can carry: capabilities as text (`9.0`), features sorted."""
    content = asdict(facts)
    content["cpu"]["features"] = sorted(facts.cpu.features)
    for entry in (*content["gpus"], *(each["gpu"] for each in content["hidden"]), *content["plans"]):
        if entry["capability"] is not None:
            entry["capability"] = "{}.{}".format(*entry["capability"])
    return content


def load_facts(path: Path) -> Facts:
    """The machine described in `path`: the keys of `Facts`, of which only `cpu.architecture` is needed.

    Raises FactsError.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return _facts(content)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise FactsError(f"{path}: cannot be read: {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise FactsError(f"{path}: is no description of a machine: {error}") from error


def plan_from_dict(content: object) -> Plan:
    """The plan one JSON object of the cache describes. Raises ValueError if it describes none."""
    if not isinstance(content, dict):
        raise ValueError("a plan is described by a JSON object")
    try:
        return _with_capability(Plan, content)
    except TypeError as error:
        raise ValueError(str(error)) from error


def _facts(content: Mapping[str, Any]) -> Facts:
    given = dict(content)
    given["cpu"] = _part(
        Cpu, given.get("cpu", {}) | {"features": frozenset(given.get("cpu", {}).get("features", ()))}
    )
    given["gpus"] = tuple(_with_capability(Gpu, each) for each in given.get("gpus", ()))
    given["hidden"] = tuple(
        _part(HiddenGpu, dict(each) | {"gpu": _with_capability(Gpu, each["gpu"])})
        for each in given.get("hidden", ())
    )
    given["plans"] = tuple(_with_capability(Plan, each) for each in given.get("plans", ()))
    given["runtimes"] = tuple(_part(Runtime, each) for each in given.get("runtimes", ()))
    given["notes"] = tuple(given.get("notes", ()))
    return _part(Facts, given)


def _with_capability(kind: type[_Part], content: Mapping[str, Any]) -> _Part:
    given = dict(content)
    if given.get("capability") is not None:
        given["capability"] = _capability(str(given["capability"]))
    return _part(kind, given)


def _part(kind: type[_Part], content: Mapping[str, Any]) -> _Part:
    known = [field.name for field in fields(kind)]
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]} is no key of {kind.__name__}; known are {', '.join(known)}")
    return kind(**content)


def _capability(text: str) -> Capability:
    major, dot, minor = text.partition(".")
    if not (dot and major.isdecimal() and minor.isdecimal()):
        raise ValueError(f"a compute capability looks like 9.0, not {text!r:.60}")
    return int(major), int(minor)
