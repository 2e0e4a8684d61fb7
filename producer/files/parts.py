"""All files of one output under construction, and how far they are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from producer.files.ledger import LEDGER_SUFFIX, Ledger, load_ledger
from producer.files.part_file import PartFile, part_path
from producer.files.totals import Totals


class Parts:
    """OUT's own part, named "", and those beside it, named by what OUT's name has behind it.

    The first one opened must be OUT's own: it keeps other runs away from all of them.
    """

    def __init__(self, path: Path) -> None:
        self.lost = ""  #: why what an earlier run left cannot be used
        self._path = path
        self._ledger = self._named(LEDGER_SUFFIX)
        self._parts: dict[str, PartFile] = {}

    def open(self, name: str = "") -> BinaryIO:
        """The stream of a part, empty if it is new and not OUT's own. Raises FileError, OSError."""
        if name not in self._parts:
            self._parts[name] = PartFile(self._named(name))
            if name:
                self._parts[name].cut(0)
        return self._parts[name].stream

    def has(self, name: str) -> bool:
        """True if there is such a part."""
        return name in self._parts

    def ledger(self, identity: Mapping[str, str | int | None]) -> Ledger | None:
        """How far an earlier run of that identity came; None if it cannot be used, and `lost` says why."""
        ledger = load_ledger(self._ledger)
        if ledger is None:
            if self._parts[""].was_there:
                self.lost = f"{part_path(self._path)} was left by a run that had nothing saved when it ended"
            return None
        others = [name for name, value in identity.items() if ledger.identity.get(name) != value]
        if others:
            self.lost = f"{part_path(self._path)} was left by a run with another {', another '.join(others)}"
        elif not all(self._holds(name, size) for name, size in ledger.sizes.items()):
            self.lost = f"{part_path(self._path)} or a file beside it is not as {self._ledger} says"
        return None if self.lost else ledger

    def start_over(self, beside: Iterable[str]) -> None:
        """Empty OUT's own part; what an earlier run left of the others goes. Raises OSError."""
        self._ledger.unlink(missing_ok=True)
        self._parts[""].cut(0)
        for name in (*beside, LEDGER_SUFFIX):
            part_path(self._named(name)).unlink(missing_ok=True)

    def go_on(self, sizes: Mapping[str, int], *, renew: bool) -> BinaryIO:
        """Cut all parts to the sizes; what OUT's own holds, to be read.

        With `renew` that one is empty then, and nothing is saved any longer. Raises FileError, OSError.
        """
        for name, size in sizes.items():
            if name:
                self._parts[name] = PartFile(self._named(name))
            self._parts[name].cut(size)
        if not renew:
            return self._parts[""].earlier()
        self._ledger.unlink()
        return self._parts[""].renew()

    def save(
        self,
        identity: Mapping[str, str | int | None],
        *,
        totals: Totals,
        description: Mapping[str, Any],
    ) -> None:
        """Note how far all parts are. Raises OSError."""
        ledger = Ledger(identity=identity, totals=totals, sizes=self.seal(), description=description)
        ledger.save(self._ledger)

    def seal(self) -> dict[str, int]:
        """Everything is on the disk; sizes in bytes. Raises OSError."""
        return {name: part.seal() for name, part in self._parts.items()}

    def publish(self) -> None:
        """Put all in place, OUT last: who sees it may trust what stands beside it. Raises OSError."""
        for part in reversed(self._parts.values()):
            part.publish()
        self._ledger.unlink(missing_ok=True)

    def leave(self) -> None:
        """Let go of all as they are, for a later run."""
        for part in self._parts.values():
            part.leave()

    def discard(self) -> None:
        """Nothing that was not published stays."""
        if self._parts:
            self._ledger.unlink(missing_ok=True)
        for part in self._parts.values():
            part.discard()

    def _holds(self, name: str, num_bytes: int) -> bool:
        part = part_path(self._named(name))
        return part.is_file() and part.stat().st_size >= num_bytes

    def _named(self, name: str) -> Path:
        return self._path.with_name(self._path.name + name)
