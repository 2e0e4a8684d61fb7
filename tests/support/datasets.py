"""Datasets for the tests: Parquet parts with five columns, and an embedder that counts what it embeds."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import parquet

from producer.contract import EmbedOptions, Provenance, Reply, TextFailure
from producer.contract.request import check_text
from producer.datasets import DatasetSettings, RunLock, RunResult, Target, plan_dataset, run_dataset
from producer.files import KEEP_ALL, Columns, Dialect, OutputFormat, expand

SOURCE = Provenance(model="m", revision="r1", profile_id="p", profile_name="cpu", precision="fp32")
DIM = 4


def vector_of(text: str, dtype: Any = np.float32) -> npt.NDArray[Any]:
    """The vector of a text: its hash."""
    digest = hashlib.blake2b(text.encode(), digest_size=DIM).digest()
    return np.array([byte / 8 for byte in digest], dtype)


class CountingEmbedder:
    """Answers from nothing but the text, and remembers which it was asked for; "too long" fails."""

    def __init__(self, *, source: Provenance = SOURCE, die_after: int | None = None) -> None:
        self.source = source
        self.texts: list[object] = []
        self.die_after = die_after

    async def embed(self, texts: Sequence[object], options: EmbedOptions) -> Reply:
        await asyncio.sleep(0)
        if self.die_after is not None and len(self.texts) >= self.die_after:
            raise ConnectionError("the embedder has died")
        self.texts += texts
        checked = [check_text(at, text) for at, text in enumerate(texts)]
        failures = [one for one in checked if isinstance(one, TextFailure)]
        long = [at for at, text in enumerate(texts) if isinstance(text, str) and text.startswith("too long")]
        failures += [TextFailure(at, "too_long", f"text {at} has 9 tokens") for at in long]
        dtype = np.dtype(options.embedding_type)
        vectors = [vector_of(one, dtype) if isinstance(one, str) else np.zeros(DIM, dtype) for one in checked]
        return Reply(
            vectors=np.array(vectors, dtype).reshape(-1, DIM),
            failures=tuple(sorted(failures, key=lambda failure: failure.index)),
            token_counts=np.array([len(str(text)) for text in texts], np.int32),
            truncated=np.array([0], np.int32),
            scale=None,
            provenance=self.source,
        )


def part_table(first: int, size: int, *, changed: Callable[[int], bool] = lambda row: False) -> pa.Table:
    """Rows `first` to `first` + `size`, with an id, a text and three more columns."""
    rows = range(first, first + size)
    return pa.table(
        {
            "id": pa.array([f"id{row}" for row in rows], pa.string()),
            "text": pa.array(
                [f"{'another' if changed(row) else 'the'} text of row {row}" for row in rows]
            ).cast(pa.string()),
            "lang": pa.array(["en" if row % 2 else "de" for row in rows], pa.string()).dictionary_encode(),
            "score": pa.array([row / 7 for row in rows], pa.float64()),
            "when": pa.array([row * 1000 for row in rows], pa.timestamp("ms", "UTC")),
        }
    )


def write_parts(folder: Path, *, parts: int, size: int, **more: Any) -> None:
    """A directory of Parquet parts."""
    folder.mkdir(exist_ok=True)
    for number in range(parts):
        table = part_table(number * size, size, **more)
        parquet.write_table(table, folder / f"part-{number:03}.parquet")


def settings(**more: Any) -> DatasetSettings:
    """All columns kept, Parquet out."""
    standard: dict[str, Any] = {
        "model": "m",
        "options": EmbedOptions(),
        "columns": Columns(keep=KEEP_ALL),
        "dialect": Dialect(),
        "input_format": None,
        "output_format": OutputFormat.PARQUET,
    }
    return DatasetSettings(**{**standard, **more})


async def embed(
    inputs: Path | Sequence[Path], out: Path, embedder: CountingEmbedder, **more: Any
) -> RunResult | None:
    """One run as the command makes it; None if there was nothing to do."""
    chosen, target = settings(**more), Target(str(out))
    paths = [str(inputs / "*")] if isinstance(inputs, Path) else [str(path) for path in inputs]
    lock = RunLock(target, chosen.shard)
    lock.take()
    try:
        dataset = plan_dataset(expand(paths), target, chosen)
        if not dataset.tasks:
            return None
        return await run_dataset(embedder, dataset, lock, batch_texts=8, max_in_flight=3)
    finally:
        lock.release()


def assert_columns(folder: Path, out: Path) -> pa.Table:
    """Every row of the parts once, in order, its columns unchanged; returns the output."""
    source = pa.concat_tables([parquet.read_table(path) for path in sorted(folder.iterdir())])
    found = pa.concat_tables([parquet.read_table(path) for path in sorted(out.glob("*.parquet"))])
    assert found["id"].to_pylist() == source["id"].to_pylist()
    for name in source.column_names[1:]:
        assert found[name].to_pylist() == source[name].to_pylist(), name
    return found


def assert_whole(folder: Path, out: Path) -> None:
    """The same, each row with its own vector."""
    found = assert_columns(folder, out)
    expected = [vector_of(text).tolist() for text in found["text"].to_pylist()]
    assert found["vector"].to_pylist() == expected


def manifest(out: Path) -> dict[str, object]:
    """The manifest of an output."""
    found: dict[str, object] = json.loads((out / "_manifest.json").read_text())
    return found
