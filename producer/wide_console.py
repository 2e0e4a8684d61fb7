"""Where tables are printed."""

from rich.console import Console

_PIPED_WIDTH = 240  # nobody sees it there, and a cut id is of no use


def wide_console() -> Console:
    """Standard output, as wide as the terminal, or wide enough where there is none."""
    console = Console()
    if not console.is_terminal:
        console.width = _PIPED_WIDTH
    return console
