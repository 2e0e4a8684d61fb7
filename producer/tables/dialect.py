"""How a CSV file is written down: found out from its beginning, or said by the user."""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from producer.errors import InvalidOption

_DELIMITERS = (",", ";", "\t", "|")
_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What the user says about a text file; None is found out from its beginning.

    Raises InvalidOption if a delimiter or quote is not one character; `\\t` may stand for a tab.
    """

    delimiter: str | None = None
    quote: str | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.delimiter == "\\t":
            object.__setattr__(self, "delimiter", "\t")
        for name, value in (("delimiter", self.delimiter), ("quote", self.quote)):
            if value is not None and (len(value) != 1 or value in "\r\n\0"):
                raise InvalidOption(f"{name} must be one character, not {value!r:.20}")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundDialect:
    """What `csv.reader` is told; `skip_lines` come before the header, as Excel's `sep=;` does."""

    delimiter: str
    quote: str | None = '"'
    escape: str | None = None
    skip_space: bool = False
    skip_lines: int = 0

    def options(self) -> dict[str, Any]:
        """The arguments of `csv.reader`."""
        return {
            "delimiter": self.delimiter,
            "quotechar": self.quote,
            "quoting": csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            "escapechar": self.escape,
            "doublequote": self.escape is None,
            "skipinitialspace": self.skip_space,
            "strict": True,
        }

    def described(self) -> str:
        """The dialect for people."""
        quote = f"quote {self.quote}" if self.quote else "no quotes"
        escape = f", escaped by {self.escape}" if self.escape else ""
        space = ", spaces after delimiters skipped" if self.skip_space else ""
        return f"delimiter {_NAMES.get(self.delimiter, repr(self.delimiter))}, {quote}{escape}{space}"


def sniff_dialect(
    sample: Sequence[str], given: Dialect, *, usual: str, wanted: Sequence[str], is_whole: bool
) -> FoundDialect:
    """The dialect in which the lines of `sample` read best.

    Best is one whose header has the `wanted` columns, then the one with the fewest records that are broken or
    not as long as the header; `usual` is the delimiter that is taken when nothing speaks for another.
    """
    skip_lines, delimiters = _delimiters(sample, given, usual)
    lines = sample[skip_lines:]
    tries = [
        FoundDialect(delimiter=delimiter, quote=quote, escape=escape, skip_lines=skip_lines)
        for (quote, escape), delimiter in product(_quotings(lines, given), delimiters)
    ]
    if (
        "\t" in delimiters and given.quote is None and lines and "\t" in lines[0]
    ):  # the other kind of TSV, whose quotes are characters
        tries.append(FoundDialect(delimiter="\t", quote=None, skip_lines=skip_lines))
    tries += [
        FoundDialect(delimiter=each.delimiter, quote=each.quote, skip_space=True, skip_lines=skip_lines)
        for each in tries
        if each.escape is None and f"{each.delimiter} " in (lines[0] if lines else "")
    ]
    return max(
        tries, key=lambda each: _fitness(lines, each, wanted, is_whole=is_whole)
    )  # the first of equals


def _delimiters(sample: Sequence[str], given: Dialect, usual: str) -> tuple[int, Sequence[str]]:
    first = sample[0].rstrip("\r\n") if sample else ""
    says_it = first.lower().startswith("sep=") and len(first) == len("sep=") + 1
    if given.delimiter is not None:
        return int(says_it), given.delimiter
    if says_it:
        return 1, first[-1]
    return 0, (usual, *(each for each in _DELIMITERS if each != usual))


def _quotings(lines: Sequence[str], given: Dialect) -> list[tuple[str | None, str | None]]:
    quote = given.quote or '"'
    if given.quote is None and lines and lines[0].startswith("'"):
        quote = "'"
    escaped: list[tuple[str | None, str | None]] = (
        [(quote, "\\")] if any(f"\\{quote}" in line for line in lines) else []
    )
    return [(quote, None), *escaped]


def _fitness(
    lines: Sequence[str], dialect: FoundDialect, wanted: Sequence[str], *, is_whole: bool
) -> tuple[float, ...]:
    records = list(_records(lines, dialect, is_whole=is_whole))
    header = records[0] if records else None
    if not header:
        return (0, 0, 0)
    has_wanted = all(name in header for name in wanted)
    num_fitting = sum(record is not None and len(record) == len(header) for record in records[1:])
    share = num_fitting / max(1, len(records) - 1)
    return (has_wanted, len(header) > 1, share)


def _records(lines: Sequence[str], dialect: FoundDialect, *, is_whole: bool) -> Iterator[list[str] | None]:
    """The records of a sample, None for a broken one; the last is left out if the sample may cut it."""
    reader = csv.reader(lines, **dialect.options())
    while True:
        try:
            record = next(reader, None)
        except csv.Error:
            if is_whole or reader.line_num < len(lines):
                yield None
            continue
        if record is None:
            return
        if record:
            yield record
