"""All files of one output under construction, with the ledger of their progress."""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from producer.files.ledger import LEDGER_SUFFIX, Ledger, load_ledger
from producer.files.part_file import PartFile, part_path
from producer.files.totals import Totals


class Parts:
    """The part of OUT itself, named "", and those beside it, named by their suffix to OUT.

    Open the part of OUT first: its lock keeps other runs away from all of them.
    """

    def __init__(self, path: Path) -> None:
        self.unusable = ""  #: why the parts of an earlier run cannot be resumed
        self._path = path
        self._ledger = self._named(LEDGER_SUFFIX)
        self._parts: dict[str, PartFile] = {}

    def open(self, name: str = "") -> BinaryIO:
        """The stream of a part, opened if need be; all but OUT's begin empty. Raises FileError, OSError."""
        if name not in self._parts:
            self._parts[name] = PartFile(self._named(name))
            if name:
                self._parts[name].truncate(0)
        return self._parts[name].stream

    def has(self, name: str) -> bool:
        """True if that part is open."""
        return name in self._parts

    def ledger(self, identity: Mapping[str, str | int | None]) -> Ledger | None:
        """The progress of an earlier run of that identity; None if it cannot resume, as `unusable` says."""
        ledger = load_ledger(self._ledger)
        if ledger is None:
            if self._parts[""].existed:
                self.unusable = (
                    f"{part_path(self._path)} was left by a run that ended before it saved its progress"
                )
            return None
        others = [name for name, value in identity.items() if ledger.identity.get(name) != value]
        if others:
            self.unusable = (
                f"{part_path(self._path)} was left by a run with another {', another '.join(others)}"
            )
        elif not all(self._holds(name, size) for name, size in ledger.sizes.items()):
            self.unusable = f"{part_path(self._path)} or a file beside it does not match {self._ledger}"
        return None if self.unusable else ledger

    def restart(self, beside: Iterable[str]) -> None:
        """Empty the part of OUT, and remove what an earlier run left of the others. Raises OSError."""
        self._ledger.unlink(missing_ok=True)
        self._parts[""].truncate(0)
        for name in (*beside, LEDGER_SUFFIX):
            part_path(self._named(name)).unlink(missing_ok=True)

    def resume(self, sizes: Mapping[str, int]) -> BinaryIO:
        """Truncate all parts to these sizes; returns the content of OUT's, opened for reading.

        Raises FileError, OSError.
        """
        for name, size in sizes.items():
            if name:
                self._parts[name] = PartFile(self._named(name))
            self._parts[name].truncate(size)
        return self._parts[""].earlier()

    def save(
        self,
        identity: Mapping[str, str | int | None],
        *,
        totals: Totals,
        next_row: int,
        description: Mapping[str, Any],
    ) -> None:
        """Save the progress of all parts in the ledger. Raises OSError."""
        ledger = Ledger(
            identity=identity, totals=totals, next_row=next_row, sizes=self.sync(), description=description
        )
        ledger.save(self._ledger)

    def sync(self) -> dict[str, int]:
        """Flush all parts to disk; returns their sizes in bytes. Raises OSError."""
        return {name: part.sync() for name, part in self._parts.items()}

    def publish(self, *, without: Collection[str] = ()) -> None:
        """Publish all parts but those, OUT last, so that a reader of OUT also finds the others.

        Those without are removed. Raises OSError.
        """
        for name, part in reversed(self._parts.items()):
            if name not in without:
                part.publish()
        for name in without:
            if name in self._parts:
                self._parts[name].discard()
        self._ledger.unlink(missing_ok=True)

    def release(self) -> None:
        """Close all parts, and keep them for a later run."""
        for part in self._parts.values():
            part.release()

    def discard(self) -> None:
        """Remove everything that was not published."""
        if self._parts:
            self._ledger.unlink(missing_ok=True)
        for part in self._parts.values():
            part.discard()

    def _holds(self, name: str, num_bytes: int) -> bool:
        part = part_path(self._named(name))
        return part.is_file() and part.stat().st_size >= num_bytes

    def _named(self, name: str) -> Path:
        return self._path.with_name(self._path.name + name)
