"""A directory of parts is embedded into a directory of parts, once, whatever happens on the way."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from support.datasets import (
    SOURCE,
    CountingEmbedder,
    assert_whole,
    embed,
    manifest,
    part_table,
    vector_of,
    write_parts,
)
from support.paths import ROOT

from producer.contract import EmbedOptions
from producer.datasets import OnDuplicate, Shard
from producer.errors import FileError


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Five parts of forty rows."""
    write_parts(tmp_path / "in", parts=5, size=40)
    return tmp_path / "in"


async def test_each_input_part_makes_an_output_part(parts: Path, tmp_path: Path) -> None:
    """With the kept columns beside the vectors, in the order of the input, and nothing else in the way."""
    out = tmp_path / "out"
    result = await embed(parts, out, CountingEmbedder())
    assert result is not None
    assert (result.summary.num_texts, result.num_parts, result.unreadable) == (200, 5, ())
    assert_whole(parts, out)
    schema = parquet.read_schema(out / "part-000.parquet")
    assert schema.names == ["id", "vector", "n_tokens", "truncated", "text", "lang", "score", "when"]
    assert schema.field("when").type == pa.timestamp("ms", "UTC")
    # Readers of a directory as one table leave out names that begin with an underscore.
    assert parquet.read_table(out, columns=["id"]).num_rows == 200


async def test_the_manifest_says_what_is_there(parts: Path, tmp_path: Path) -> None:
    """Identity, schema, and every part with its rows and a checksum of its bytes."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder(), options=EmbedOptions(input_type="query"))
    told = manifest(out)
    assert told["identity"] == {
        "asked": {
            "model": "m", "input_type": "query", "prompt_name": None, "dimensions": None,
            "embedding_type": "float32",
        },
        "found": {
            "model": "m", "revision": "r1", "dimensions": 4, "element_type": "float32", "scale": None,
            "prompt_name": None,
        },
    }  # fmt: skip
    assert told["num_rows"] == 200
    listed = told["parts"]
    assert isinstance(listed, list)
    for part in listed:
        data = (out / part["name"]).read_bytes()
        assert (part["num_rows"], part["num_bytes"]) == (40, len(data))
        assert part["sha256"] == hashlib.sha256(data).hexdigest()
    assert isinstance(told["schema"], dict)
    assert told["schema"]["vector"] == "fixed_size_list<float32>[4]"


async def test_a_second_run_has_nothing_to_do(parts: Path, tmp_path: Path) -> None:
    """It embeds nothing, and changes nothing."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder())
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    embedder = CountingEmbedder()
    assert await embed(parts, out, embedder) is None
    assert embedder.texts == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == before


async def test_a_new_input_is_all_that_a_later_run_embeds(parts: Path, tmp_path: Path) -> None:
    """The finished parts stay as they are."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder())
    parquet.write_table(part_table(200, 10), parts / "part-005.parquet")
    embedder = CountingEmbedder()
    await embed(parts, out, embedder)
    assert len(embedder.texts) == 10
    assert_whole(parts, out)


async def test_a_run_that_died_is_gone_on_with(parts: Path, tmp_path: Path) -> None:
    """Wherever it died: no row that was answered is embedded again."""
    out, num_texts = tmp_path / "out", 0
    for die_after in (8, 48, 24, 8):
        embedder = CountingEmbedder(die_after=die_after)
        with pytest.raises(ConnectionError):
            await embed(parts, out, embedder)
        num_texts += len(embedder.texts)
    embedder = CountingEmbedder()
    await embed(parts, out, embedder)
    assert_whole(parts, out)
    # What was in flight at a death, three jobs of eight texts, may have been answered to nobody.
    assert 200 <= num_texts + len(embedder.texts) <= 200 + 4 * 3 * 8


async def test_another_identity_is_refused(parts: Path, tmp_path: Path) -> None:
    """Another model before anything is embedded, another revision at the first reply; both are named."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder())
    parquet.write_table(part_table(200, 10), parts / "part-005.parquet")
    embedder = CountingEmbedder()
    for more, says in (
        ({"model": "n"}, r"model m.*model n"),
        ({"options": EmbedOptions(dimensions=2)}, r"dimensions None.*dimensions 2"),
        ({"options": EmbedOptions(embedding_type="float16")}, r"type float32.*type float16"),
        ({"options": EmbedOptions(prompt_name="q")}, r"prompt name None.*prompt name q"),
    ):
        with pytest.raises(FileError, match=says):
            await embed(parts, out, embedder, **more)
    assert embedder.texts == []
    with pytest.raises(FileError, match=r"revision r1.*revision r2.*--overwrite"):
        await embed(parts, out, CountingEmbedder(source=replace(SOURCE, revision="r2")))
    await embed(parts, out, CountingEmbedder())
    assert_whole(parts, out)


async def test_overwriting_embeds_all_again(parts: Path, tmp_path: Path) -> None:
    """With another identity too; nothing of the earlier output stays."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder(), rows_per_file=15)
    embedder = CountingEmbedder(source=replace(SOURCE, revision="r2"))
    await embed(parts, out, embedder, overwrite=True)
    assert len(embedder.texts) == 200
    assert sorted(path.name for path in out.glob("*.parquet")) == [f"part-00{n}.parquet" for n in range(5)]
    assert_whole(parts, out)


async def test_files_of_others_are_never_touched(parts: Path, tmp_path: Path) -> None:
    """A directory with files that no run wrote is refused, with --overwrite too."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("three years of work")
    for more in ({}, {"overwrite": True}):
        with pytest.raises(FileError, match=r"thesis\.txt"):
            await embed(parts, out, CountingEmbedder(), **more)
    assert (out / "thesis.txt").read_text() == "three years of work"


async def test_files_of_so_many_rows(parts: Path, tmp_path: Path) -> None:
    """Each input makes as many as it needs, also when a run dies between two of them."""
    out = tmp_path / "out"
    with pytest.raises(ConnectionError):
        await embed(parts, out, CountingEmbedder(die_after=64), rows_per_file=15)
    await embed(parts, out, CountingEmbedder(), rows_per_file=15)
    sizes = {path.name: parquet.read_metadata(path).num_rows for path in sorted(out.glob("*.parquet"))}
    assert sizes == {f"part-00{n}-0000{m}.parquet": (15, 15, 10)[m] for n in range(5) for m in range(3)}
    assert_whole(parts, out)


async def test_shards_divide_the_inputs(parts: Path, tmp_path: Path) -> None:
    """Every part is in exactly one; what a dead producer left is done by whoever comes next."""
    out, embedder = tmp_path / "out", CountingEmbedder()
    for number in (1, 3):
        await embed(parts, out, embedder, shard=Shard(number, 3))
    assert 0 < len(embedder.texts) < 200
    await embed(parts, out, embedder)
    assert len(embedder.texts) == 200
    assert_whole(parts, out)
    assert manifest(out)["num_rows"] == 200


async def test_an_input_that_cannot_be_read_ends_alone(parts: Path, tmp_path: Path) -> None:
    """The others are done; once it is repaired, it is all that is left to do."""
    out, broken = tmp_path / "out", parts / "part-002.parquet"
    good = broken.read_bytes()
    broken.write_bytes(good[: len(good) // 2])
    result = await embed(parts, out, CountingEmbedder())
    assert result is not None
    assert len(result.unreadable) == 1
    assert "part-002.parquet" in result.unreadable[0]
    assert result.num_parts == 4
    broken.write_bytes(good)
    embedder = CountingEmbedder()
    await embed(parts, out, embedder)
    assert len(embedder.texts) == 40
    assert_whole(parts, out)


async def test_an_input_without_rows_is_done(parts: Path, tmp_path: Path) -> None:
    """It makes no file, and is not looked at again."""
    out = tmp_path / "out"
    parquet.write_table(part_table(0, 0), parts / "part-002.parquet")
    result = await embed(parts, out, CountingEmbedder())
    assert result is not None
    assert len(list(out.glob("*.parquet"))) == 4
    assert await embed(parts, out, CountingEmbedder()) is None


async def test_a_part_that_is_gone_is_made_again(parts: Path, tmp_path: Path) -> None:
    """The manifest alone is not believed."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder())
    (out / "part-003.parquet").unlink()
    embedder = CountingEmbedder()
    await embed(parts, out, embedder)
    assert len(embedder.texts) == 40
    assert_whole(parts, out)


@pytest.mark.parametrize("choice", list(OnDuplicate))
async def test_rows_with_the_same_id(parts: Path, tmp_path: Path, choice: OnDuplicate) -> None:
    """Fail the run, leave the later out, or are both embedded; in another part and a later run too."""
    out = tmp_path / "out"
    await embed(parts, out, CountingEmbedder(), on_duplicate=choice)
    again = pa.concat_tables([part_table(200, 10), part_table(30, 5), part_table(204, 3), part_table(210, 5)])
    parquet.write_table(again, parts / "part-005.parquet")
    if choice is OnDuplicate.FAIL:
        with pytest.raises(FileError, match=r"part-005.parquet: row 10 has an id that an earlier row has"):
            await embed(parts, out, CountingEmbedder(), on_duplicate=choice)
        return
    result = await embed(parts, out, CountingEmbedder(), on_duplicate=choice)
    assert result is not None
    ids = parquet.read_table(out)["id"].to_pylist()
    assert (len(ids), result.num_duplicates) == ((215, 8) if choice is OnDuplicate.FIRST else (223, 0))
    assert len(set(ids)) == 215


async def test_rows_without_an_id(tmp_path: Path) -> None:
    """Are refused where ids must be unique, else known by their text."""
    table = part_table(0, 4).set_column(0, "id", pa.array(["a", None, None, "b"]))
    parquet.write_table(table, tmp_path / "in.parquet")
    with pytest.raises(FileError, match="row 1 has no id"):
        await embed(
            [tmp_path / "in.parquet"], tmp_path / "x", CountingEmbedder(), on_duplicate=OnDuplicate.FAIL
        )
    await embed(
        [tmp_path / "in.parquet"], tmp_path / "out", CountingEmbedder(), on_duplicate=OnDuplicate.FIRST
    )
    assert parquet.read_table(tmp_path / "out")["id"].to_pylist() == ["a", None, None, "b"]


def test_standard_input_is_gone_on_with_if_it_is_the_same(tmp_path: Path) -> None:
    """A producer that was killed leaves its rows, and the next reads over them; other rows are refused."""
    command = [sys.executable, "-c", STDIN_RUN, str(tmp_path / "out")]
    lines = [f"line {row}\n" for row in range(200)]

    def run(text: str, die_after: int) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        return subprocess.run(
            [*command, str(die_after)], input=text, capture_output=True, text=True, env=env, check=False
        )

    assert "ConnectionError" in run("".join(lines), 80).stderr
    other = run("".join([*lines[:50], "another line\n", *lines[51:]]), 10**6)
    assert "row 50 is not that which the interrupted run has read" in other.stdout
    assert "ended after 10 rows" in run("".join(lines[:10]), 10**6).stdout
    whole = run("".join(lines), 10**6)
    assert int(whole.stdout) <= 200 - 80 + 3 * 8
    table = parquet.read_table(tmp_path / "out")
    assert table["vector"].to_pylist() == [vector_of(line.rstrip()).tolist() for line in lines]


STDIN_RUN = """
import asyncio, sys
from pathlib import Path
from support.datasets import CountingEmbedder, embed
from producer.files import Columns
embedder = CountingEmbedder(die_after=int(sys.argv[2]))
result = asyncio.run(embed(["-"], Path(sys.argv[1]), embedder, columns=Columns()))
print(*result.unreadable or [len(embedder.texts)])
"""
