"""Inputs change, and only what is new in them is embedded; the other vectors are taken from the output."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from support.datasets import (
    CountingEmbedder,
    assert_whole,
    embed,
    manifest,
    part_table,
    vector_of,
    write_parts,
)

from producer.contract import EmbedOptions
from producer.errors import FileError
from producer.files import Columns, OutputFormat


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Five parts of forty rows."""
    write_parts(tmp_path / "in", parts=5, size=40)
    return tmp_path / "in"


@pytest.mark.parametrize("kind", list(OutputFormat))
async def test_only_what_changed_is_embedded(parts: Path, tmp_path: Path, kind: OutputFormat) -> None:
    """One row in twenty, wherever it lies; the others keep their vectors, in every format."""
    out = tmp_path / "out"
    columns = Columns()  # npy has no place for others
    await embed(parts, out, CountingEmbedder(), output_format=kind, columns=columns)
    write_parts(parts, parts=5, size=40, changed=lambda row: row % 20 == 3)
    with pytest.raises(FileError, match=r"part-000.parquet and 4 more changed.*--only-new.*--overwrite"):
        await embed(parts, out, CountingEmbedder(), output_format=kind, columns=columns)
    embedder = CountingEmbedder()
    result = await embed(parts, out, embedder, output_format=kind, columns=columns, only_new=True)
    assert sorted(map(str, embedder.texts)) == sorted(
        f"another text of row {row}" for row in range(200) if row % 20 == 3
    )
    assert result is not None
    assert result.num_reused == 190
    if kind is OutputFormat.PARQUET:
        rows = parquet.read_table(out).sort_by("id")
        source = parquet.read_table(parts).sort_by("id")
        expected = [vector_of(text).tolist() for text in source["text"].to_pylist()]
        assert rows["vector"].to_pylist() == expected
    elif kind is OutputFormat.NPY:
        texts = parquet.read_table(parts / "part-002.parquet")["text"].to_pylist()
        np.testing.assert_array_equal(np.load(out / "part-002.npy"), [vector_of(text) for text in texts])
    assert await embed(parts, out, embedder, output_format=kind, columns=columns) is None


async def test_rows_that_moved_or_went_are_not_embedded(parts: Path, tmp_path: Path) -> None:
    """A row is known by its id and text, not by its place; a failed row is tried again."""
    out = tmp_path / "out"
    first = parts / "part-000.parquet"
    table = part_table(0, 40)
    texts = [*table["text"].to_pylist()[:-1], "too long for the model"]
    table = table.set_column(1, "text", pa.array(texts))
    parquet.write_table(table, first)
    result = await embed([first], out, CountingEmbedder())
    assert result is not None
    assert result.summary.failed == {"too_long": 1}
    parquet.write_table(table.take(list(range(39, 4, -1))), first)
    embedder = CountingEmbedder()
    await embed([first], out, embedder, only_new=True)
    assert embedder.texts == ["too long for the model"]
    written = parquet.read_table(out)
    assert written["id"].to_pylist() == [f"id{row}" for row in range(39, 4, -1)]
    assert written["vector"].to_pylist()[1:] == [vector_of(text).tolist() for text in texts[-2:4:-1]]
    assert written["vector"].to_pylist()[0] is None
    errors = (out / "_errors" / "part-000.parquet.jsonl").read_text().splitlines()
    assert [json.loads(line)["message"] for line in errors] == ["row 0 has 9 tokens"]


async def test_a_shorter_input_leaves_no_stale_part(parts: Path, tmp_path: Path) -> None:
    """An output part that the changed input does not fill any more goes."""
    out, first = tmp_path / "out", parts / "part-000.parquet"
    await embed([first], out, CountingEmbedder(), rows_per_file=15)
    parquet.write_table(part_table(0, 10), first)
    embedder = CountingEmbedder()
    await embed([first], out, embedder, rows_per_file=15, only_new=True)
    assert embedder.texts == []
    assert [path.name for path in out.glob("*.parquet")] == ["part-000-00000.parquet"]
    assert not list((out / "_rows").glob("*0001*"))


async def test_vectors_of_a_part_that_was_touched_are_not_taken_over(parts: Path, tmp_path: Path) -> None:
    """Somebody's own rows of the same size would get into the wrong places."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder())
    data = (out / "part-000.parquet").read_bytes()
    (out / "part-000.parquet").write_bytes((out / "part-001.parquet").read_bytes()[: len(data)])
    write_parts(parts, parts=5, size=40, changed=lambda row: row == 100)
    embedder = CountingEmbedder()
    await embed(parts, out, embedder, only_new=True)
    assert len(embedder.texts) in (1 + 40, 1 + 39)
    assert_whole(parts, out)


async def test_other_columns_rewrite_without_embedding(parts: Path, tmp_path: Path) -> None:
    """Whoever wants one column more next week pays no second time."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder(), columns=Columns())
    embedder = CountingEmbedder()
    with pytest.raises(FileError, match="is read differently"):
        await embed(parts, out, embedder)
    await embed(parts, out, embedder, only_new=True)
    assert embedder.texts == []
    assert_whole(parts, out)


async def test_failed_rows_are_tried_again_on_request(parts: Path, tmp_path: Path) -> None:
    """They alone, with another choice of what is cut if one likes; the other vectors stay."""
    out = tmp_path / "out"
    table = part_table(0, 40)
    texts = ["too long for the model" if row % 10 == 3 else f"text {row}" for row in range(40)]
    parquet.write_table(table.set_column(1, "text", pa.array(texts)), parts / "part-000.parquet")
    await embed(parts, out, CountingEmbedder())
    assert await embed(parts, out, CountingEmbedder()) is None
    embedder = CountingEmbedder()
    options = EmbedOptions(truncate="END")
    result = await embed(parts, out, embedder, retry_failed=True, options=options)
    assert embedder.texts == ["too long for the model"] * 4
    assert result is not None
    assert result.num_reused == 36
    told = manifest(out)["parts"]
    assert isinstance(told, list)
    assert {part["name"]: part["truncate"] for part in told}["part-000.parquet"] == "END"
    assert parquet.read_table(out).num_rows == 200


async def test_an_output_that_was_copied_keeps_its_vectors(parts: Path, tmp_path: Path) -> None:
    """Another host has other times of change, but the bytes of the manifest's checksums."""
    out, copy = tmp_path / "out", tmp_path / "copy"
    await embed(parts, out, CountingEmbedder())
    shutil.copytree(out, copy)
    write_parts(parts, parts=5, size=40, changed=lambda row: row == 100)
    embedder = CountingEmbedder()
    await embed(parts, copy, embedder, only_new=True)
    assert embedder.texts == ["another text of row 100"]
    assert_whole(parts, copy)
