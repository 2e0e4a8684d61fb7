"""Formats numbers and foreign words for people, prints tables, and ends a command on our errors."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from producer.errors import EmbedmillError

if TYPE_CHECKING:
    from rich.console import Console

_DURATIONS = ((86400, "d"), (3600, "h"), (60, "min"))
_SIZES = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_NUMBERS = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
_PIPED_WIDTH = 240  # a pipe has no width, and a truncated id is useless


def format_duration(seconds: float) -> str:
    """A duration in the largest unit that it reaches: `42 s`, `1.5 min`, `3.0 h`, `2.1 d`."""
    for size_s, unit in _DURATIONS:
        if seconds >= size_s:
            return f"{seconds / size_s:.1f} {unit}"
    return f"{seconds:.0f} s"


def format_bytes(num_bytes: int) -> str:
    """A size in the largest binary unit that it reaches: `512 bytes`, `1.5 KiB`, `79.2 GiB`."""
    for size, unit in _SIZES:
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes} bytes"


def format_number(number: float) -> str:
    """A number in at most five characters, for tables: `999`, `12.3k`, `1.50M`."""
    for size, unit in _NUMBERS:
        if number >= size * 0.9995:
            scaled = number / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f}{unit}"
    return f"{number:.0f}" if number >= 9.95 or number == int(number) else f"{number:.1f}"


def escaped(text: str, *, max_chars: int | None = None) -> str:
    """The text on one line as it may be shown, whoever wrote it; longer ones are cut at `max_chars`.

    What a terminal would act on or reorder, such as escape sequences, line breaks and marks of direction, is
    written as Python escapes it.
    """
    if max_chars is not None and len(text) > max_chars:
        text = text[: max_chars - 1] + "…"
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def wide_console() -> "Console":
    """Standard output, as wide as the terminal, or wide enough for any row if it is not a TTY."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console


@contextmanager
def exit_on_error(exit_code: Callable[[EmbedmillError], int]) -> Iterator[None]:
    """End the process on one of our errors with one line on stderr and an exit code, without a traceback."""
    try:
        yield
    except EmbedmillError as error:
        lines = "\n".join(map(escaped, str(error).split("\n")))  # it may quote what others wrote
        click.echo(f"error [{error.code}]: {lines}", err=True)
        sys.exit(exit_code(error))
