"""The vector cache: the very bits that were computed, never for anything else, bounded, never in the way."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.contract import Keys, Truncate
from producer.embedded.services import EmbeddedServer
from producer.transport.connect import connect
from worker.vector_cache.cache import Known, Store, StoreError, VectorCache
from worker.vector_cache.redis_store import RedisVectors
from worker.vector_cache.sqlite_store import DiskVectors

pytestmark = pytest.mark.every_server

DIM = 8
TEXTS = ["one", "two", "three", ""]

# Opens a store for so many entries; a second one sees what the first one kept.
Opener = Callable[[int], Store]


@pytest.fixture(params=["redis", "disk"])
def opener(request: pytest.FixtureRequest, server: EmbeddedServer, tmp_path: Path) -> Iterator[Opener]:
    opened: list[Store] = []

    def open_store(max_entries: int) -> Store:
        if request.param == "redis":
            if not opened:
                asyncio.run(empty(server.url))
            opened.append(RedisVectors(connect(server.url), Keys("cached"), max_entries=max_entries))
        else:
            opened.append(DiskVectors(tmp_path / "some" / "vectors.sqlite", max_entries=max_entries))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


async def empty(url: str) -> None:
    async with connect(url) as redis:
        await redis.flushall()


class TestEveryStore:
    """The contract of `Store`."""

    def test_values_come_in_the_order_of_the_keys(self, opener: Opener) -> None:
        """Any bytes, bit by bit; None for what is not there; a key may be asked for twice."""
        store = opener(100)
        values = [bytes(range(256)), b"", b"\x00\xff" * 5000]
        store.put([b"a", b"\x00", b"\xff\xfe"], values)
        asked = [b"\xff\xfe", b"absent", b"a", b"\x00", b"a"]
        assert store.get(asked) == [values[2], None, values[0], values[1], values[0]]

    def test_nothing_asked_is_nothing_found(self, opener: Opener) -> None:
        """No keys are no error, before and after something was kept."""
        store = opener(100)
        assert store.get([]) == []
        store.put([b"a"], [b"1"])
        assert store.get([]) == []

    def test_more_keys_than_one_query_holds(self, opener: Opener) -> None:
        """As a job of thousands of texts has."""
        store = opener(10_000)
        keys = [b"%d" % number for number in range(4096)]
        store.put(keys, keys)
        assert store.get([*reversed(keys), b"absent"]) == [*reversed(keys), None]

    def test_another_store_sees_what_was_kept(self, opener: Opener) -> None:
        """As another worker process opens it; what both keep is there once, for both."""
        first, second = opener(100), opener(100)
        first.put([b"a"], [b"1"])
        second.put([b"a", b"b"], [b"1", b"2"])
        assert first.get([b"a", b"b"]) == second.get([b"a", b"b"]) == [b"1", b"2"]

    def test_several_threads_may_use_it(self, opener: Opener) -> None:
        """As the tokenizer's threads do."""
        store = opener(10_000)

        def use(thread: int) -> bool:
            keys = [b"%d of %d" % (number, thread) for number in range(50)]
            for key in keys:
                store.put([key], [key])
                assert store.get([key]) == [key]
            return store.get(keys) == keys

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(use, range(8)))

    def test_it_is_bounded_and_keeps_what_is_used(self, opener: Opener) -> None:
        """Never more than it may hold, and what is read all the time stays."""
        store = opener(100)
        store.put([b"used"], [b"value"])
        for start in range(0, 2000, 10):
            keys = [b"%d" % number for number in range(start, start + 10)]
            store.put(keys, keys)
            assert store.get([b"used"]) == [b"value"]
        kept = [key for key in store.get([b"%d" % number for number in range(2000)]) if key is not None]
        # Reading them has moved all to the young half at most once.
        assert 10 <= len(kept) <= 110
        assert kept[-1] == b"1999"

    def test_what_cannot_be_used_is_a_store_error(
        self, opener: Opener, server: EmbeddedServer, tmp_path: Path
    ) -> None:
        """Not an error of its library: the cache catches no other."""
        store = opener(100)
        asyncio.run(spoil(server.url))
        for path in tmp_path.rglob("*.sqlite"):
            with closing(sqlite3.connect(path)) as database:
                database.execute("DROP TABLE young")
        with pytest.raises(StoreError):
            store.get([b"a"])
        with pytest.raises(StoreError):
            store.put([b"a"], [b"1"])


async def spoil(url: str) -> None:
    """Put strings where the store has its hashes."""
    async with connect(url) as redis:
        await redis.mset({Keys("cached").root + name: "spoilt" for name in ("vectors", "vectors-old")})


def known(count: int = len(TEXTS), seed: int = 0) -> Known:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, DIM)).astype(np.float32)
    lengths = random.integers(1, 100, size=count).astype(np.int32)
    return Known(np.arange(count), vectors, lengths, random.random(count) < 0.5)


def same(found: Known, expected: Known) -> None:
    for name in ("places", "vectors", "lengths", "truncated"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_what_was_kept_is_found_bit_by_bit(opener: Opener) -> None:
    """By another worker too; what was not kept is not found."""
    cache = VectorCache(opener(100), identity="model", dim=DIM)
    assert len(cache.look_up(TEXTS, Truncate.END).places) == 0
    cache.keep(TEXTS, Truncate.END, known())
    other = VectorCache(opener(100), identity="model", dim=DIM)
    same(other.look_up(TEXTS, Truncate.END), known())
    found = other.look_up(["new", "three", "newer", "one"], Truncate.END)
    assert found.places.tolist() == [1, 3]
    np.testing.assert_array_equal(found.vectors, known().vectors[[2, 0]])


def test_nothing_is_found_for_another_model_precision_or_truncation(opener: Opener) -> None:
    """Nor for another text, as a prompt makes one."""
    store = opener(100)
    VectorCache(store, identity="model\0fp32", dim=DIM).keep(TEXTS, Truncate.END, known())
    for identity, truncate in (("model\0fp32", Truncate.START), ("model\0fp16", Truncate.END)):
        cache = VectorCache(store, identity=identity, dim=DIM)
        assert len(cache.look_up(TEXTS, truncate).places) == 0
    cache = VectorCache(store, identity="model\0fp32", dim=DIM)
    assert len(cache.look_up(["query: one"], Truncate.END).places) == 0
    assert len(cache.look_up(["one"], Truncate.END).places) == 1


def test_a_failed_text_is_not_kept(opener: Opener) -> None:
    """It is tried again the next time."""
    cache = VectorCache(opener(100), identity="model", dim=DIM)
    some = known()
    some.vectors[2] = np.nan
    cache.keep(TEXTS, Truncate.END, some)
    assert cache.look_up(TEXTS, Truncate.END).places.tolist() == [0, 1, 3]


def test_a_value_of_another_shape_is_no_hit(opener: Opener) -> None:
    """Whatever lies under the key is checked before it is believed."""
    store = opener(100)
    VectorCache(store, identity="model", dim=DIM * 2).keep(TEXTS[:1], Truncate.END, wide())
    assert len(VectorCache(store, identity="model", dim=DIM).look_up(TEXTS, Truncate.END).places) == 0


def wide() -> Known:
    one = np.ones(1, dtype=np.int32)
    return Known(np.zeros(1, dtype=np.intp), np.ones((1, DIM * 2), dtype=np.float32), one, one < 0)


class Broken:
    """A store that is down."""

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        raise StoreError("it is down")

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        raise StoreError("it is down")

    def close(self) -> None:
        """Nothing is held."""


def test_a_store_that_is_down_costs_hits_and_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """No job fails for it."""
    cache = VectorCache(Broken(), identity="model", dim=DIM)
    for _ in range(3):
        assert len(cache.look_up(TEXTS, Truncate.END).places) == 0
        cache.keep(TEXTS, Truncate.END, known())
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With its name, and left alone: it is somebody else's."""
    path = tmp_path / "vectors.sqlite"
    path.write_bytes(b"something else entirely, longer than a header" * 100)
    opened: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def remembering(*arguments: Any, **options: Any) -> sqlite3.Connection:
        opened.append(connect(*arguments, **options))
        return opened[-1]

    monkeypatch.setattr(sqlite3, "connect", remembering)
    with pytest.raises(StoreError, match=r"vectors\.sqlite"):
        DiskVectors(path, max_entries=10)
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        opened[0].execute("SELECT 1")
