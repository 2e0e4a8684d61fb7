"""Caches the vectors of texts that were embedded before, keyed by everything that determines the vector."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog

from producer.contract import Truncate
from worker.contract import FloatArray, Indices

log = structlog.stdlib.get_logger(__name__)

_KEY_BYTES = 16


class StoreError(Exception):
    """The store cannot be read or written now."""


class Store(Protocol):
    """Bounded storage of byte strings with approximate LRU eviction.

    Its methods are called from several threads and raise StoreError.
    """

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """The values in the order of the keys."""

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Store the values."""

    def close(self) -> None:
        """Close files and connections."""


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """Embedded texts: `places` intp (k,) among those requested, vectors float32 (k, dim).

    `lengths` int32 (k,) are their tokens after truncation, `truncated` bool (k,) which were truncated.
    """

    places: Indices
    vectors: FloatArray
    lengths: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]


class VectorCache:
    """Keeps whole float32 vectors, before Matryoshka truncation and casts, so one entry serves all options.

    A hit is bit-identical to what was computed. `identity` names what else determines the vector: the files
    of the model and the precision. A failing store costs hits, but never a reply.
    """

    def __init__(self, store: Store, *, identity: str, dim: int) -> None:
        self._store = store
        self._record = np.dtype([("tokens", "<i4"), ("vector", "<f4", (dim,))])
        self._identity = identity
        self._seeds = {kind: self._seed(kind, b"") for kind in Truncate}
        self._failing = False

    def look_up(self, texts: Sequence[str], truncate: Truncate, *, num_unpooled: int = 0) -> Known:
        """Find the texts, prompts included, whose vectors are cached for this truncation and pooling."""
        values = self._read(self._keys(texts, truncate, num_unpooled))
        size = self._record.itemsize
        found = [place for place, value in enumerate(values) if value is not None and len(value) == size]
        records = np.frombuffer(b"".join(values[place] or b"" for place in found), dtype=self._record)
        # A truncated text has its number of tokens negated.
        return Known(
            places=np.array(found, dtype=np.intp),
            vectors=np.ascontiguousarray(records["vector"], dtype=np.float32),
            lengths=np.abs(records["tokens"]).astype(np.int32),
            truncated=records["tokens"] < 0,
        )

    def keep(self, texts: Sequence[str], truncate: Truncate, known: Known, *, num_unpooled: int = 0) -> None:
        """Store the vectors of the texts at the places of `known`; those that are not finite are skipped."""
        good = np.flatnonzero(np.isfinite(known.vectors).all(axis=1))
        if len(good) == 0:
            return
        records = np.empty(len(good), dtype=self._record)
        records["vector"] = known.vectors[good]
        records["tokens"] = np.where(known.truncated, -known.lengths, known.lengths)[good]
        size, packed = self._record.itemsize, records.tobytes()
        keys = self._keys([texts[place] for place in known.places[good].tolist()], truncate, num_unpooled)
        self._write(keys, [packed[at : at + size] for at in range(0, len(packed), size)])

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _keys(self, texts: Sequence[str], truncate: Truncate, num_unpooled: int) -> list[bytes]:
        seed = self._seeds[truncate]
        if num_unpooled:  # for a model that leaves prompts out of pooling: the same text has another vector
            seed = self._seed(truncate, str(num_unpooled).encode())
        keys = []
        for text in texts:
            digest = seed.copy()
            digest.update(text.encode())
            keys.append(digest.digest())
        return keys

    def _seed(self, truncate: Truncate, person: bytes) -> "hashlib.blake2b":
        seed = f"{self._identity}\0{truncate}\0".encode()
        return hashlib.blake2b(seed, digest_size=_KEY_BYTES, person=person)

    def _read(self, keys: list[bytes]) -> list[bytes | None]:
        try:
            values = self._store.get(keys)
        except StoreError as error:
            self._log_failure(error)
            return [None] * len(keys)
        self._failing = False
        return values

    def _write(self, keys: list[bytes], values: list[bytes]) -> None:
        try:
            self._store.put(keys, values)
        except StoreError as error:
            self._log_failure(error)

    def _log_failure(self, error: StoreError) -> None:
        if not self._failing:  # logged once, not for every job
            log.warning("vector_cache_failing", reason=str(error))
        self._failing = True


def max_records(max_mb: int, dim: int) -> int:
    """How many vectors of `dim` dimensions fit into `max_mb`, with a store's overhead for each."""
    overhead_bytes = 100
    return max(2, max_mb * 1_000_000 // (4 + 4 * dim + overhead_bytes))
