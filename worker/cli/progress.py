"""Shows a progress bar on stderr for each plan that is built."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from selection import Profile


@contextmanager
def bar_for_each() -> Iterator[Callable[[Profile], Callable[[float], None]]]:
    """Yields a function that opens a bar for a profile and returns a setter of the share done, 0 to 1."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    bars = Progress(*columns, console=Console(stderr=True))

    def start(profile: Profile) -> Callable[[float], None]:
        bars.start()
        bar = bars.add_task(profile.name, total=1.0)
        return lambda share: bars.update(bar, completed=share)

    try:
        yield start
    finally:
        if bars.tasks:
            bars.stop()
