"""How things are shown to people: lengths of time, and the console that tables are printed on."""

from rich.console import Console

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def spoken(seconds: float) -> str:
    """In the largest unit of which there is at least one: `42 s`, `1.5 min`, `3.0 h`, `2.1 d`."""
    for size_s, unit in _UNITS:
        if seconds >= size_s:
            return f"{seconds / size_s:.1f} {unit}"
    return f"{seconds:.0f} s"


_PIPED_WIDTH = 240  # nobody sees it there, and a cut id is of no use


def wide_console() -> Console:
    """Standard output, as wide as the terminal, or wide enough where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
