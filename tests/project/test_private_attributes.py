"""Private attributes of a library are used in one file for each library."""

import ast
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

OURS = ("producer", "selection", "worker")
# The one file for each library whose private attributes we cannot do without.
PRIVATE = {
    "redis": "producer/transport/redis_internals.py",
    "torch": "worker/encoder/kernels/matmul.py",
}
DOCUMENTED = {"os._exit"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def modules() -> Iterator[tuple[str, ast.Module]]:
    for package in OURS:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())


def defined(tree: ast.Module) -> set[str]:
    """The names that a module gives to functions, classes, variables and attributes of its own."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and of_its_own(node):
            names.add(node.attr)
    return names


def of_its_own(node: ast.Attribute) -> bool:
    """True for an attribute of `self` or `cls`, which may be inherited."""
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def foreign(tree: ast.Module, inherited: set[str]) -> Iterator[str]:
    """Private names that a module uses and nobody of us has defined."""
    own = defined(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr) and ast.unparse(node) not in DOCUMENTED:
            if node.attr not in (own | inherited if of_its_own(node) else own):
                yield f"{ast.unparse(node)} in line {node.lineno}"
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in OURS:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(is_private(name) for name in names):
                yield ast.unparse(node)
        elif isinstance(node, ast.Import) and is_any_private(node):
            yield ast.unparse(node)


def is_any_private(node: ast.Import) -> bool:
    return any(is_private(part) for alias in node.names for part in alias.name.split("."))


def test_private_attributes_of_a_library_are_used_in_one_file() -> None:
    """What may change with any release of it is in a place of its own, which is tested on its own."""
    trees = dict(modules())
    inherited = set().union(*map(defined, trees.values()))
    found = {path: list(foreign(tree, inherited)) for path, tree in trees.items()}
    assert {path: uses for path, uses in found.items() if uses and path not in PRIVATE.values()} == {}
    assert {path for path in PRIVATE.values() if not found[path]} == set(), "no longer needed"


def test_the_rule_sees_what_is_private() -> None:
    """An attribute of another's object, an inherited one, and a private module."""
    source = (
        "from redis._parsers import Hiredis\n"
        "class Pool(ConnectionPool):\n"
        "    def __init__(self): self._idle = []\n"
        "    def size(self, other): return self._idle, self._in_use, other._idle, other._reader\n"
    )
    found = list(foreign(ast.parse(source), set()))
    assert found == [
        "from redis._parsers import Hiredis",
        "self._in_use in line 4",
        "other._reader in line 4",
    ]


def test_the_files_exist() -> None:
    assert all(Path(ROOT, path).is_file() for path in PRIVATE.values())
