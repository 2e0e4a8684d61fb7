"""The code's shape: folders of a sensible size, no circles between them, each public name defined once."""

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from support.paths import ROOT

PACKAGES = ("producer", "selection", "worker")
MIN_MODULES, MAX_MODULES = 3, 20

#: Folders with fewer modules than MIN_MODULES, each with its reason.
SMALL_FOLDERS = {
    "worker.graphs.custom": "a user's own graph needs only new inputs and a head; one of four kinds of graph",
    "worker.graphs.packed": "one of four kinds of graph, as large as it has to be",
}

#: Public names that are defined more than once, each with its reason.
REPEATED_NAMES: dict[str, str] = {}

#: Names that every module may define for itself.
USUAL_NAMES = {"log", "main"}


@cache
def modules() -> dict[str, ast.Module]:
    """Every module of ours by its dotted name; a package stands for its `__init__`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = ast.parse(path.read_text(), filename=str(path))
    return found


def is_package(name: str) -> bool:
    return (ROOT / Path(*name.split(".")) / "__init__.py").exists()


def folder(name: str) -> str:
    """The folder that a module lies in; a package is its own."""
    return name if is_package(name) else name.rpartition(".")[0]


def imported(name: str, tree: ast.Module) -> Iterator[str]:
    """Modules of ours that a module imports, anywhere in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module in modules():
            for each in node.names:
                submodule = f"{node.module}.{each.name}"
                yield submodule if submodule in modules() else node.module


def box(name: str) -> str:
    """What a module counts as: its folder, or itself if it lies at the top of a package."""
    return name if folder(name) in PACKAGES else folder(name)


def box_graph() -> dict[str, set[str]]:
    """Which box imports which; `__main__` only starts what is there."""
    graph: defaultdict[str, set[str]] = defaultdict(set)
    for name, tree in modules().items():
        if not name.endswith(".__main__"):
            graph[box(name)] |= {box(other) for other in imported(name, tree)} - {box(name)}
    return graph


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The strongly connected components with more than one node (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def public_names(tree: ast.Module) -> Iterator[str]:
    """Classes, functions and constants that a module defines for others, aliases of types among them."""
    for node in tree.body:
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                names = [node.name]
            case ast.Assign():
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            case ast.AnnAssign(target=ast.Name(id=name)):
                names = [name]
            case _:
                names = []
        yield from (name for name in names if not name.startswith("_") and name not in USUAL_NAMES)


def listed(lines: Iterable[str]) -> str:
    return "".join(f"\n  {line}" for line in lines)


def test_there_are_no_circles_between_folders() -> None:
    """To read one folder nobody needs to have read those that use it."""
    lines = []
    for circle in circles(box_graph()):
        lines.append(" <-> ".join(circle))
        for name, tree in modules().items():
            if box(name) in circle:
                others = {each for each in imported(name, tree) if box(each) in {*circle} - {box(name)}}
                lines += [f"    {name} imports {other}" for other in sorted(others)]
    assert not lines, listed(lines)


def test_folders_have_a_sensible_size() -> None:
    """From three to twenty modules; the table has the smaller ones, and no others."""
    sizes: defaultdict[str, int] = defaultdict(int)
    for name in modules():
        if not is_package(name) and not name.endswith(".__main__"):
            sizes[folder(name)] += 1
    small = {name for name, size in sizes.items() if size < MIN_MODULES}
    large = {name for name, size in sizes.items() if size > MAX_MODULES}
    offenders = sorted((small - SMALL_FOLDERS.keys()) | large)
    assert not offenders, listed(f"{name}: {sizes[name]} modules" for name in offenders)
    assert SMALL_FOLDERS.keys() <= small, f"no longer small: {sorted(SMALL_FOLDERS.keys() - small)}"


def test_every_public_name_is_defined_once() -> None:
    """So a name leads to one definition wherever it is read; the table has the exceptions, and no others."""
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for module, tree in modules().items():
        for name in dict.fromkeys(public_names(tree)):
            homes[name].append(module)
    several = {name: where for name, where in homes.items() if len(where) > 1}
    offenders = sorted(several.keys() - REPEATED_NAMES.keys())
    assert not offenders, listed(f"{name}: {', '.join(several[name])}" for name in offenders)
    settled = sorted(REPEATED_NAMES.keys() - several.keys())
    assert not settled, f"no longer repeated: {settled}"


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}}, []),
        ({"a": {"b"}, "b": {"a"}}, [["a", "b"]]),
        ({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}, [["b", "c"]]),
    ],
)
def test_circles_are_found(graph: dict[str, set[str]], expected: list[list[str]]) -> None:
    """Also those that only a part of the graph is in."""
    assert circles(graph) == expected
