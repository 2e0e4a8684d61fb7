"""A server whose clock can be stepped: it runs with libfaketime, which the package of that name has."""

import os
from pathlib import Path

from support.redis_server import RedisServer

_PLACES = ("/usr/lib/*/faketime", "/usr/lib64/faketime", "/usr/lib/faketime", "/opt/homebrew/lib/faketime")


def find_libfaketime() -> Path | None:
    """The library, where distributions put it or where `LIBFAKETIME` says; None if it is not installed."""
    named = os.environ.get("LIBFAKETIME")
    if named:
        return Path(named)
    found = (path for place in _PLACES for path in Path("/").glob(f"{place[1:]}/libfaketime.so.1"))
    return next(found, None)


class SteppedServer(RedisServer):
    """A RedisServer whose clock is off by as many seconds as `step` was last told; 0 at first.

    Its monotonic clock goes on as it was, as with a real step.
    """

    def __init__(self, program: str, directory: Path, library: Path) -> None:
        super().__init__(program, directory)
        self._offset = directory / "offset"
        self.step(0)
        variables = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": self._offset,
            "FAKETIME_NO_CACHE": 1,
            "FAKETIME_DONT_FAKE_MONOTONIC": 1,
        }
        self._command = ["env", *(f"{name}={value}" for name, value in variables.items()), *self._command]

    def step(self, seconds: int) -> None:
        """Set the clock to that many seconds ahead of ours, at once."""
        new = self._offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self._offset)
