"""The vector cache's store on disk: one SQLite file with a young and an old generation, each a table."""

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

from worker.vector_cache.cache import StoreError

_KEYS_PER_QUERY = 500  # SQLite limits the number of parameters
_BUSY_S = 2.0  # how long to wait while another worker process writes
_TABLES = ("young", "old")


class DiskVectors:
    """Holds at most `max_entries`; drops those neither written nor read while half as many were added.

    Several processes may share the file. Raises StoreError if it cannot be opened.
    """

    def __init__(self, path: Path, *, max_entries: int) -> None:
        self._max_young = max(1, max_entries // 2)
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None
            )
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: {error}") from error
        try:
            self._prepare()
        except sqlite3.Error as error:
            self._database.close()
            raise StoreError(f"{path}: {error}") from error

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """See `Store`."""
        try:
            with self._lock:
                found = self._read("young", keys)
                missing = [key for key in keys if key not in found]
                older = self._read("old", missing)
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error
        if older:  # in use, so moved to the young generation
            self.put(list(older), list(older.values()))
        found |= older
        return [found.get(key) for key in keys]

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """See `Store`."""
        try:
            with self._lock, self._database:
                self._database.execute("BEGIN IMMEDIATE")
                self._database.executemany(
                    "INSERT OR IGNORE INTO young (key, value) VALUES (?, ?)", zip(keys, values, strict=True)
                )
                # Rows are never deleted one by one, so the last row's number is their count.
                [(count,)] = self._database.execute("SELECT max(rowid) FROM young")
                if count is not None and count >= self._max_young:
                    self._database.execute("DROP TABLE old")
                    self._database.execute("ALTER TABLE young RENAME TO old")
                    self._create("young")
        except sqlite3.Error as error:
            raise StoreError(str(error)) from error

    def close(self) -> None:
        """See `Store`."""
        with self._lock:
            self._database.close()

    def _prepare(self) -> None:
        # A crash of the machine may lose the last writes, which a cache can afford.
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute("PRAGMA synchronous=OFF")
        with self._database:
            self._database.execute("BEGIN IMMEDIATE")
            for table in _TABLES:
                self._create(table)

    def _create(self, table: str) -> None:
        self._database.execute(f"CREATE TABLE IF NOT EXISTS {table} (key BLOB UNIQUE, value BLOB)")

    def _read(self, table: str, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            placeholders = ",".join("?" * len(part))
            found.update(
                self._database.execute(f"SELECT key, value FROM {table} WHERE key IN ({placeholders})", part)
            )
        return found
