"""Files of this machine."""

import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from producer.atomic import replace_file
from producer.locations.failures import unreadable, unwritable
from producer.locations.filesystem import Stat


class LocalFiles:
    """The local `FileSystem`; writes replace a file by a rename in its directory."""

    def stat(self, path: str) -> Stat | None:
        try:
            facts = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise unreadable(path, error) from error
        return None if stat.S_ISDIR(facts.st_mode) else _stat(path, facts)

    def list(self, path: str) -> list[Stat]:
        found = []
        for directory, _, names in os.walk(path, onerror=_refuse(path)):
            for name in names:
                full = os.path.join(directory, name)
                facts = self.stat(full)  # None for a link that leads nowhere
                found += [] if facts is None else [facts]
        return sorted(found, key=lambda each: each.path)

    def open(self, path: str) -> BinaryIO:
        try:
            return open(path, "rb", 1 << 20)
        except OSError as error:
            raise unreadable(path, error) from error

    def write(self, path: str, data: bytes) -> None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            replace_file(Path(path), data)
        except OSError as error:
            raise unwritable(path, error) from error

    def put(self, local: Path, path: str) -> None:
        target = Path(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _sync(local)
            try:
                local.replace(target)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
                shutil.copyfile(local, beside)
                _sync(beside)
                beside.replace(target)
                local.unlink()
        except OSError as error:
            raise unwritable(path, error) from error

    def delete(self, path: str) -> None:
        try:
            Path(path).unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from error


def _sync(path: Path) -> None:
    """Have the content on disk before the rename: after a power failure a file is whole or not there."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _stat(path: str, facts: os.stat_result) -> Stat:
    is_file = stat.S_ISREG(facts.st_mode)
    return Stat(path, facts.st_size if is_file else None, f"{facts.st_size}-{facts.st_mtime_ns}")


def _refuse(path: str) -> Callable[[OSError], None]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise unreadable(error.filename or path, error) from error

    return refuse
