"""A bar for each plan that is built."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from selection import Profile


@contextmanager
def bar_for_each() -> Iterator[Callable[[Profile], Callable[[float], None]]]:
    """What is told of a profile gives what is told of its share done, 0 to 1; bars go to standard error."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:

        def start(profile: Profile) -> Callable[[float], None]:
            bar = bars.add_task(profile.name, total=1.0)
            return lambda share: bars.update(bar, completed=share)

        yield start
