"""The directory or URL that a run writes to: its layout, its manifest, and how a part gets there."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from producer.datasets.identity import RunIdentity, check_found, identity_from_json
from producer.datasets.manifest import (
    MANIFEST,
    FinishedPart,
    RunManifest,
    manifest_from_json,
    part_from_json,
)
from producer.errors import FileError
from producer.files import Stat, open_filesystem
from producer.files.writer import IDS
from producer.locations.urls import is_url, shown

# Names that begin with an underscore are no data to those who read the directory as one table.
ERRORS, ROWS, RECORDS, LOCKS, WORK = "_errors", "_rows", "_parts", "_locks", "_unfinished"

_REQUESTS_AT_ONCE = 16  # to an object store, each of which takes as long as a hundred local ones


def rows_file(part: str) -> str:
    """The file with the digests of a part's rows."""
    return f"{ROWS}/{part}.rows"


class Target:
    """An output of many parts.

    A finished part is a file NAME, with the digests of its rows in _rows/NAME.rows and its failed texts in
    _errors/NAME.jsonl; a record in _parts says that it is whole, until the manifest does. Unfinished parts
    lie in `work`, a local directory. Every method raises FileError.
    """

    def __init__(self, location: str) -> None:
        self.location = shown(location).rstrip("/") or "/"
        self._files, root = open_filesystem(location)
        self._root = root.rstrip("/")
        self.work = Path(root) / WORK
        if is_url(location):
            name = hashlib.sha256(location.encode()).hexdigest()[:16]
            self.work = Path(tempfile.gettempdir()) / f"embedmill-{name}"

    def files(self) -> dict[str, Stat]:
        """Everything that is there, by its name within the target."""
        start = len(self._root) + 1
        return {each.path[start:]: each for each in self._files.list(self._root)}

    def names_in(self, folder: str) -> list[str]:
        """The names of all files in a folder of the target."""
        start = len(self._root) + 1
        return [each.path[start:] for each in self._files.list(self._at(folder))]

    def stat(self, name: str) -> Stat | None:
        return self._files.stat(self._at(name))

    def open(self, name: str) -> BinaryIO:
        return self._files.open(self._at(name))

    def read(self, name: str) -> bytes:
        with self.open(name) as stream:
            return stream.read()

    def put(self, local: Path, name: str) -> None:
        """Commit a finished file, once."""
        self._files.put(local, self._at(name))

    def delete(self, name: str) -> None:
        self._files.delete(self._at(name))

    def remove(self, part: str) -> None:
        """Remove a part with everything beside it."""
        for name in (f"{RECORDS}/{part}.json", part, part + IDS, rows_file(part), f"{ERRORS}/{part}.jsonl"):
            self.delete(name)

    def read_json(self, name: str) -> Any:
        """The value in a file; None if that is absent. Raises FileError if it is not JSON."""
        if self.stat(name) is None:
            return None
        try:
            return json.loads(self.read(name))
        except ValueError as error:
            raise FileError(
                f"{self.location}/{name}: not JSON; restore it, or remove the directory"
            ) from error

    def write_json(self, name: str, value: Any) -> None:
        self._files.write(self._at(name), json.dumps(value, indent=1).encode() + b"\n")

    def manifest(self, wanted: RunIdentity, files: Mapping[str, Stat]) -> RunManifest:
        """What the target holds; an empty manifest if no run has written to it.

        Parts whose file is missing, or has another size than was written, do not count. Raises FileError if
        there are files but no manifest.
        """
        manifest = RunManifest(identity=wanted)
        if MANIFEST in files:
            fields = self.read_json(MANIFEST)
            manifest = manifest_from_json(fields, f"{self.location}/{MANIFEST}")
        records = [name for name in files if name.startswith(f"{RECORDS}/")]
        self._add_records(manifest, records)
        if MANIFEST not in files and not records:
            others = sorted(name for name in files if not name.startswith("_"))
            if others:
                raise FileError(
                    f"{self.location}: has files that no run wrote, such as {others[0]}; choose an empty "
                    "directory, or one that does not exist yet"
                )
        manifest.parts = {
            name: part for name, part in manifest.parts.items() if _is_there(part, files.get(name))
        }
        return manifest

    def record(self, part: FinishedPart, identity: RunIdentity, schema: Mapping[str, str]) -> None:
        """Say that a part is whole: from here on it counts."""
        fields = {"identity": identity.as_json(), "schema": dict(schema), "part": asdict(part)}
        self.write_json(f"{RECORDS}/{part.name}.json", fields)

    def write_manifest(self, manifest: RunManifest, *, is_only: bool) -> None:
        """Write the manifest; if no other run writes here (`is_only`), the records in it are removed."""
        while True:
            before = self.names_in(RECORDS)
            if not is_only:
                self._add_records(manifest, before)
            self.write_json(MANIFEST, manifest.as_json())
            if is_only:
                with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
                    list(pool.map(self.delete, before))
                return
            if self.names_in(RECORDS) == before:  # else another run finished a part meanwhile
                return

    def clear(self, files: Mapping[str, Stat], parts: Iterable[str]) -> None:
        """Remove those parts and everything else that runs write here, the manifest first: then none counts.

        Files of others stay.
        """
        ours = [name for name in files if name.startswith((f"{RECORDS}/", f"{ROWS}/", f"{ERRORS}/"))]
        beside = [f"{name}{IDS}" for name in parts]
        for name in (MANIFEST, *ours, *parts, *beside):
            if name in files:
                self.delete(name)
        shutil.rmtree(self.work, ignore_errors=True)

    def tidy(self) -> None:
        """Remove the directories of unfinished parts that are empty."""
        for folder in sorted((self.work, *self.work.rglob("*")), reverse=True):
            with suppress(OSError):  # it has files, or is one
                folder.rmdir()

    def _add_records(self, manifest: RunManifest, names: Sequence[str]) -> None:
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as pool:
            for name, fields in zip(names, pool.map(self.read_json, names), strict=True):
                if fields is not None:  # else its run has ended meanwhile, and the manifest has it
                    _add_record(manifest, fields, f"{self.location}/{name}")

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"


def _add_record(manifest: RunManifest, fields: Any, where: str) -> None:
    try:
        part, identity = part_from_json(fields["part"], where), identity_from_json(fields["identity"])
        schema = fields["schema"]
    except (KeyError, TypeError) as error:
        raise FileError(
            f"{where}: not the record of a part; remove it, and its part is made again"
        ) from error
    if manifest.parts and identity.found is not None:
        check_found(where, there=manifest.identity.found, answer=identity.found)
    manifest.parts[part.name] = part
    manifest.identity = identity
    manifest.schema = schema or manifest.schema


def _is_there(part: FinishedPart, found: Stat | None) -> bool:
    return part.num_rows == 0 or (found is not None and found.size == part.num_bytes)
