"""The input parts that the arguments of a command stand for: files, directories, globs, URLs, "-"."""

import glob
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from urllib.parse import urlsplit

from producer.errors import FileError
from producer.locations.filesystem import FileSystem, Stat
from producer.locations.sources import STDIN, Source, source_at, source_of
from producer.locations.urls import WEB, is_url, open_filesystem, shown
from producer.tables.formats import known_format


def expand(arguments: Sequence[str]) -> list[Source]:
    """The parts in the order of the arguments, those of one argument sorted by their paths.

    A directory stands for the files below it whose extension is known, except hidden ones and those whose
    names or directories begin with "_"; a glob (`*`, `?`, `[...]`, `**`; in URLs without `?`) for what it
    matches. A part that is named twice is taken once. Raises FileError if an argument stands for nothing.
    """
    if not arguments:
        raise FileError("no input was given; name files, directories, globs or URLs, or - for standard input")
    found: dict[str, Source] = {}
    for argument in arguments:
        for source in _parts_of(argument):
            found.setdefault(source.address, source)
    return _with_own_names(list(found.values()))


def _parts_of(argument: str) -> list[Source]:
    if argument == STDIN or (is_url(argument) and urlsplit(argument).scheme in WEB):
        return [source_of(argument)]
    filesystem, path = open_filesystem(argument)
    facts = filesystem.stat(path)
    if facts is not None:
        return [source_at(argument, os.path.basename(path), facts)]
    magic = "*[" if is_url(argument) else "*[?"
    if any(character in path for character in magic):
        base, matches = _matches(filesystem, path, is_local=not is_url(argument))
        problem = "nothing matches it"
    else:
        base = path.rstrip("/")
        matches = [each for each in filesystem.list(base) if _is_input(_below(each.path, base))]
        problem = (
            "it holds no file with a known extension" if filesystem.list(base) else "there is no such file"
        )
    if not matches:
        raise FileError(f"{shown(argument)}: cannot be read ({problem}); check the path")
    return [source_at(_address(argument, each), _below(each.path, base), each) for each in matches]


def _matches(filesystem: FileSystem, path: str, *, is_local: bool) -> tuple[str, list[Stat]]:
    """The directory above the first wildcard, and the files that match, sorted."""
    steps = path.split("/")
    first = next(number for number, step in enumerate(steps) if any(sign in step for sign in "*[?"))
    base, pattern = "/".join(steps[:first]), steps[first:]
    if is_local:
        paths = glob.glob(path, recursive=True)
        found = [facts for each in sorted(paths) if (facts := filesystem.stat(each)) is not None]
    else:
        below = [(each, _below(each.path, base).split("/")) for each in filesystem.list(base)]
        found = [each for each, parts in below if _fits(parts, pattern)]
    if any(step.startswith((".", "_")) for step in pattern):
        return base, found
    return base, [each for each in found if not _is_hidden(_below(each.path, base))]


def _fits(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """True if the steps of a path match those of a pattern, of which `**` is any number of steps."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_fits(parts[start:], pattern[1:]) for start in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:])


def _below(path: str, base: str) -> str:
    return os.path.relpath(path, base or ".")


def _is_input(name: str) -> bool:
    return known_format(name) is not None and not _is_hidden(name)


def _is_hidden(name: str) -> bool:
    return any(step.startswith((".", "_")) for step in name.split("/"))


def _address(argument: str, facts: Stat) -> str:
    """The path or URL of a file found by an argument, with the options that the argument's URL has."""
    if not is_url(argument):
        return facts.path
    parts = urlsplit(argument)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{facts.path}{query}"


def _with_own_names(sources: list[Source]) -> list[Source]:
    """The parts, each with a name of its own: where two have one, the directories above tell them apart."""
    depth = 0
    while True:
        counts = Counter(source.name for source in sources)
        doubled = {name for name, count in counts.items() if count > 1}
        if not doubled:
            return sources
        depth += 1
        sources = [
            replace(source, name=_longer(source)) if source.name in doubled else source for source in sources
        ]
        if depth > max(source.location.count("/") for source in sources) + 1:
            return [replace(source, name=f"{at}/{source.name}") for at, source in enumerate(sources)]


def _longer(source: Source) -> str:
    """The name with one more directory of the location before it."""
    steps = [step for step in source.location.split("/") if step and not step.endswith(":")]
    wanted = source.name.count("/") + 2
    return "/".join(steps[-wanted:])
