"""Vectors come back from every output format as they went in; a file appears whole or not at all."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from producer.contract import EmbeddingType, EmbedOptions, Provenance, Reply, TextFailure
from producer.errors import FileError, WorkerError
from producer.files import Output, RowBatch
from producer.files.rows import Id
from producer.files.short_floats import short_floats
from producer.files.vector_text import lines_with_vectors

SOURCE = Provenance(model="m", revision="r1", profile_id="p", profile_name="cpu", precision="fp32")
DTYPES: dict[EmbeddingType, type[np.number[Any]]] = {
    EmbeddingType.FLOAT32: np.float32,
    EmbeddingType.FLOAT16: np.float16,
    EmbeddingType.INT8: np.int8,
    EmbeddingType.UINT8: np.uint8,
    EmbeddingType.BINARY: np.int8,
    EmbeddingType.UBINARY: np.uint8,
}
in_tmp_path = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def reply(
    num_texts: int,
    *,
    dtype: type[np.number[Any]] = np.float32,
    dim: int = 4,
    failed: Sequence[int] = (),
    seed: int = 0,
    source: Provenance = SOURCE,
    scale: float | None = None,
    prompt_name: str | None = None,
) -> Reply:
    vectors = np.random.default_rng(seed).integers(-100, 100, (num_texts, dim)).astype(dtype)
    vectors[list(failed)] = np.nan if np.issubdtype(dtype, np.floating) else 0
    counts = np.arange(1, num_texts + 1, dtype=np.int32)
    counts[list(failed)] = 0
    return Reply(
        vectors=vectors,
        failures=tuple(TextFailure(index, "too_long", f"text {index} has 9 tokens") for index in failed),
        token_counts=counts,
        truncated=np.array([0] if num_texts and 0 not in failed else [], dtype=np.int32),
        scale=scale,
        provenance=source,
        prompt_name=prompt_name,
    )


def read_back(path: Path) -> tuple[list[str | int], list[Any]]:
    """(ids, vectors with None for failed texts where the format can say so) of any output."""
    if path.suffix == ".parquet":
        table = parquet.read_table(path)
        return table["id"].to_pylist(), table["vector"].to_pylist()
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        return [line["id"] for line in lines], [line["vector"] for line in lines]
    ids = [json.loads(line) for line in Path(f"{path}.ids.jsonl").read_text().splitlines()]
    return ids, list(np.load(path, allow_pickle=False))


@in_tmp_path
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    kind=st.sampled_from(list(EmbeddingType)),
    suffix=st.sampled_from([".parquet", ".jsonl", ".npy"]),
    data=st.data(),
)
def test_rows_come_back_in_order(
    tmp_path: Path, sizes: list[int], kind: EmbeddingType, suffix: str, data: st.DataObject
) -> None:
    """Ids, vectors and failed rows of any number of batches are read back in order, in every element type."""
    out = tmp_path / f"out{suffix}"
    drawn = data.draw(st.lists(st.text(max_size=4), min_size=sum(sizes), max_size=sum(sizes)))
    ids: list[Id] = [item.encode("utf-8", "replace").decode() for item in drawn]
    expected, first = [], 0
    options = EmbedOptions(embedding_type=kind)
    with Output(out, id_type="string", options=options, overwrite=True) as output:
        for number, size in enumerate(sizes):
            failed = sorted(data.draw(st.sets(st.integers(0, size - 1))))
            answer = reply(size, dtype=DTYPES[kind], failed=failed, seed=number)
            output.write(RowBatch(first, ids[first : first + size], []), answer)
            expected += [None if row in failed else answer.vectors[row] for row in range(size)]
            first += size
    read_ids, vectors = read_back(out)
    assert read_ids == ids
    for vector, wanted in zip(vectors, expected, strict=True):
        if wanted is not None:
            np.testing.assert_array_equal(np.array(vector, dtype=wanted.dtype), wanted)
        elif suffix == ".npy":
            assert np.isnan(vector).all() if np.issubdtype(vector.dtype, np.floating) else not vector.any()
        else:
            assert vector is None


def test_parquet_says_what_it_holds(tmp_path: Path) -> None:
    """The schema is typed, and the footer names model, revision, profiles, precision, scale and options."""
    out = tmp_path / "out.parquet"
    other = Provenance(model="m", revision="r1", profile_id="q", profile_name="gpu", precision="fp16")
    options = EmbedOptions(embedding_type="int8", truncate="END")
    with Output(out, id_type="int64", options=options) as output:
        output.write(RowBatch(0, [0, 1], []), reply(2, dtype=np.int8, scale=0.5))
        output.write(RowBatch(2, [2], []), reply(1, dtype=np.int8, scale=0.5, source=other))
    schema = parquet.read_schema(out)
    assert schema.field("id").type == pa.int64()
    assert schema.field("vector").type == pa.list_(pa.int8(), 4)
    assert (schema.field("n_tokens").type, schema.field("truncated").type) == (pa.int32(), pa.bool_())
    assert parquet.read_table(out)["truncated"].to_pylist() == [True, False, True]
    assert parquet.read_table(out)["n_tokens"].to_pylist() == [1, 2, 1]
    told = json.loads(parquet.read_metadata(out).metadata[b"embedmill"])
    assert (told["model"], told["revision"], told["scale"], told["dimensions"]) == ("m", "r1", 0.5, 4)
    assert [profile["precision"] for profile in told["profiles"]] == ["fp32", "fp16"]
    assert told["options"] == {
        "input_type": None, "prompt_name": None, "truncate": "END", "dimensions": None,
        "embedding_type": "int8",
    }  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet"]


@pytest.mark.parametrize(("dtype", "most_chars"), [(np.float32, 15), (np.float16, 11)])
@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_floats_are_written_short_and_read_back_to_the_bit(
    dtype: type[np.floating[Any]], most_chars: int, data: st.DataObject
) -> None:
    """Every finite value, in the digits that numpy prints it with or, at a power of two, one more."""
    width: Literal[16, 32] = 16 if dtype is np.float16 else 32
    values = np.array(data.draw(st.lists(st.floats(width=width, allow_nan=False), min_size=1)), dtype=dtype)
    written = short_floats(values)
    np.testing.assert_array_equal(written.astype(dtype).view(f"i{width // 8}"), values.view(f"i{width // 8}"))
    usual = (np.abs(values) > 1e-4) & (np.abs(values) < 1e4)
    for short, value in zip(written[usual].tolist(), values[usual], strict=True):
        assert len(repr(short)) <= min(len(str(value)) + 1, most_chars)


def test_vectors_of_length_one_are_written_as_short_as_can_be(tmp_path: Path) -> None:
    """As numpy prints each element, whose digits are the fewest; half of what a float64 takes."""
    vectors = np.random.default_rng(0).standard_normal((20, 384))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    with Output(tmp_path / "out.jsonl", id_type="int64", options=EmbedOptions()) as output:
        output.write(RowBatch(0, list(range(20)), []), replace(reply(20), vectors=vectors))
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    written = [item for line in lines for item in json.loads(line, parse_float=str)["vector"]]
    assert [float(item) for item in written] == [float(str(item)) for item in vectors.ravel()]
    assert max(map(len, written)) <= 16  # with a sign and an exponent


@pytest.mark.parametrize("suffix", [".jsonl", ".npy"])
def test_formats_without_a_footer_have_a_file_beside_them(tmp_path: Path, suffix: str) -> None:
    """OUT.meta.json says what the Parquet footer says."""
    out = tmp_path / f"out{suffix}"
    with Output(out, id_type="int64", options=EmbedOptions()) as output:
        output.write(RowBatch(0, [0], []), reply(1))
    assert json.loads(Path(f"{out}.meta.json").read_text())["revision"] == "r1"


def test_failed_texts_are_listed_beside(tmp_path: Path) -> None:
    """The errors file names id, row in the input, code and message; a run without failures removes it."""
    out = tmp_path / "out.parquet"
    with Output(out, id_type="string", options=EmbedOptions()) as output:
        output.write(RowBatch(0, ["a", "b"], []), reply(2))
        output.write(RowBatch(2, ["c", "d"], []), reply(2, failed=[1]))
    errors = tmp_path / "out.parquet.errors.jsonl"
    assert [json.loads(line) for line in errors.read_text().splitlines()] == [
        {"id": "d", "row": 3, "code": "too_long", "message": "row 3 has 9 tokens"}
    ]
    with Output(out, id_type="string", options=EmbedOptions(), overwrite=True) as output:
        output.write(RowBatch(0, ["a"], []), reply(1))
    assert not errors.exists()


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".npy"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt, WorkerError])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, suffix: str, stop: type[BaseException]) -> None:
    """Whatever ends a run early, no file of it stays, and those of an earlier run are untouched."""
    out = tmp_path / f"out{suffix}"
    out.write_text("of an earlier run")

    def interrupted() -> None:
        with Output(out, id_type="string", options=EmbedOptions(), overwrite=True) as output:
            output.write(RowBatch(0, ["a", "b"], []), reply(2, failed=[0]))
            raise stop("now")

    with pytest.raises(stop):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    assert out.read_text() == "of an earlier run"


def test_an_output_is_replaced_only_on_request(tmp_path: Path) -> None:
    """A file that is there is refused by name, with the option that replaces it."""
    out = tmp_path / "out.jsonl"
    out.write_text("of an earlier run")
    with pytest.raises(FileError, match=r"out\.jsonl: exists already.*--overwrite"):
        Output(out, id_type="int64", options=EmbedOptions())
    with Output(out, id_type="int64", options=EmbedOptions(), overwrite=True) as output:
        output.write(RowBatch(0, [0], []), reply(1))
    assert len(out.read_text().splitlines()) == 1


KEPT = pa.record_batch(
    {
        "title": pa.array(["a", None], pa.dictionary(pa.int8(), pa.string())),
        "when": pa.array([0, 1], pa.timestamp("ms", "UTC")),
        "raw": pa.array([b"\xff", b""], pa.binary()),
        "tags": pa.array([["x"], []], pa.list_(pa.large_string())),
    }
)


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_kept_columns_come_along_with_their_types(tmp_path: Path, suffix: str) -> None:
    """Behind ours, in every batch, dictionaries too."""
    out = tmp_path / f"out{suffix}"
    with Output(out, id_type="string", options=EmbedOptions(), kept_schema=KEPT.schema) as output:
        for first in (0, 2):
            output.write(RowBatch(first, ["a", "b"], [], KEPT), reply(2))
    table = parquet.read_table(out) if suffix == ".parquet" else pa.ipc.open_file(out).read_all()
    assert table.column_names == ["id", "vector", "n_tokens", "truncated", *KEPT.schema.names]
    expected = pa.Table.from_batches([KEPT, KEPT])
    for name in KEPT.schema.names:
        assert table[name].cast(KEPT.schema.field(name).type).to_pylist() == expected[name].to_pylist()
        if not pa.types.is_dictionary(KEPT.schema.field(name).type):
            assert table.schema.field(name).type == KEPT.schema.field(name).type


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst"])
def test_kept_columns_are_members_of_json_lines(tmp_path: Path, suffix: str) -> None:
    """What JSON has no type for is text; bytes are in base64; compressed files read as one."""
    out = tmp_path / f"out{suffix}"
    with Output(out, id_type="string", options=EmbedOptions(), kept_schema=KEPT.schema) as output:
        for first in (0, 2):
            output.write(RowBatch(first, ["a", "b"], [], KEPT), reply(2))
    with pa.input_stream(str(out), compression="detect") as stream:
        lines = [json.loads(line) for line in stream.read().splitlines()]
    assert len(lines) == 4
    assert lines[2]["title"] == "a"
    assert (lines[3]["when"], lines[2]["raw"]) == ("1970-01-01 00:00:00.001000+00:00", "/w==")


def test_columns_without_a_place_are_refused(tmp_path: Path) -> None:
    """Npy has none, and a column of the input cannot have the name of one of ours."""
    for name, schema, says in (
        ("out.npy", KEPT.schema, "--keep-columns none"),
        ("out.parquet", pa.schema([("vector", pa.int8())]), "column 'vector' of its own"),
    ):
        with pytest.raises(FileError, match=says):
            Output(tmp_path / name, id_type="int64", options=EmbedOptions(), kept_schema=schema)
    assert list(tmp_path.iterdir()) == []


def write_40_000_rows(out: Path) -> None:
    with Output(out, id_type="int64", options=EmbedOptions()) as output:
        for first in range(0, 40_000, 1000):
            output.write(RowBatch(first, list(range(first, first + 1000)), []), reply(1000))


def test_row_groups_are_bounded(tmp_path: Path) -> None:
    """Small replies share a row group, and no group grows with the file."""
    write_40_000_rows(tmp_path / "out.parquet")
    metadata = parquet.read_metadata(tmp_path / "out.parquet")
    sizes = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    assert sizes == [17_000, 17_000, 6_000]


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".npy"])
def test_a_full_disk_is_an_error_with_a_way_out(tmp_path: Path, suffix: str) -> None:
    """No space left is FileError naming the file; nothing of the run stays."""
    out = tmp_path / f"out{suffix}"
    (tmp_path / f"{out.name}.part").symlink_to("/dev/full")
    with pytest.raises(FileError, match=r"out.*No space left.*free some space"):
        write_40_000_rows(out)
    assert list(tmp_path.iterdir()) == []


def test_two_runs_do_not_share_an_output(tmp_path: Path) -> None:
    """While one run writes, a second is refused and the first is not disturbed; leftovers are replaced."""
    out = tmp_path / "out.npy"
    (tmp_path / "out.npy.part").write_bytes(b"left by a killed run" * 100)
    with Output(out, id_type="int64", options=EmbedOptions()) as output:
        output.write(RowBatch(0, [0], []), reply(1))
        with pytest.raises(FileError, match="another run"):
            Output(out, id_type="int64", options=EmbedOptions())
    assert np.load(out).shape == (1, 4)
    assert out.stat().st_size == 128 + 16


def test_an_output_that_cannot_open_all_its_files_leaves_none(tmp_path: Path) -> None:
    """The vectors' part goes again if the one of the ids cannot be written."""
    (tmp_path / "out.npy.ids.jsonl.part").mkdir()
    with pytest.raises(FileError, match="cannot be written"):
        Output(tmp_path / "out.npy", id_type="int64", options=EmbedOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy.ids.jsonl.part"]


def test_places_that_cannot_be_written_are_errors(tmp_path: Path) -> None:
    """A missing directory, a directory in the way or an unknown extension is refused at once."""
    for path, says in (
        (tmp_path / "absent" / "out.parquet", "create the directory"),
        (tmp_path / "out.csv", "unknown file extension"),
    ):
        with pytest.raises(FileError, match=says):
            Output(path, id_type="int64", options=EmbedOptions())
    (tmp_path / "out.npy").mkdir()
    with pytest.raises(FileError, match="is a directory"):
        Output(tmp_path / "out.npy", id_type="int64", options=EmbedOptions())


def test_an_input_without_rows_is_an_error(tmp_path: Path) -> None:
    """No row means no vector and no width: nothing is published."""
    with (
        pytest.raises(FileError, match="no rows"),
        Output(tmp_path / "out.parquet", id_type="int64", options=EmbedOptions()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "other",
    [
        reply(1, dim=5),
        reply(1, dtype=np.float16),
        reply(1, scale=0.1),
        reply(1, prompt_name="query"),
        reply(
            1,
            source=Provenance(model="m", revision="r2", profile_id="p", profile_name="cpu", precision="fp32"),
        ),
    ],
    ids=["width", "type", "scale", "prompt", "revision"],
)
def test_vectors_that_do_not_belong_together_are_refused(tmp_path: Path, other: Reply) -> None:
    """Replies of another revision, width, element type, scale or prompt end the run instead of mixing."""

    def mix() -> None:
        with Output(tmp_path / "out.parquet", id_type="int64", options=EmbedOptions()) as output:
            output.write(RowBatch(0, [0], []), reply(1))
            output.write(RowBatch(1, [1], []), other)

    with pytest.raises(WorkerError, match="same model revision"):
        mix()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.uint8])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_vectors_in_json_read_back_to_the_bit(dtype: type[np.number[Any]], data: st.DataObject) -> None:
    """Of every type, also with zeros, of both signs; a failed row is null."""
    seed, scale = data.draw(st.integers(0, 2**32 - 1)), data.draw(st.sampled_from([1e-6, 1, 1e4]))
    values = np.random.default_rng(seed).standard_normal((3, 16)) * scale
    vectors = (values if np.issubdtype(dtype, np.floating) else values.astype(np.int64) % 100).astype(dtype)
    if data.draw(st.booleans()) and np.issubdtype(dtype, np.floating):
        vectors[0, :2] = (-0.0, 1.0)
    failed = np.array(data.draw(st.lists(st.booleans(), min_size=3, max_size=3)))
    data_read = lines_with_vectors(["<"] * 3, vectors, [">\n"] * 3, failed=failed).decode()
    lines = [line.removeprefix("<").removesuffix(">") for line in data_read.splitlines()]
    assert [line == "null" for line in lines] == failed.tolist()
    for line, vector in zip(lines, vectors, strict=True):
        if line != "null":
            read = np.array([float(item) for item in json.loads(line)]).astype(dtype)
            np.testing.assert_array_equal(read.view(np.uint8), vector.view(np.uint8))


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_each_batch_may_have_a_dictionary_of_its_own(tmp_path: Path, suffix: str) -> None:
    """As the row groups of a Parquet file do; together they may have more values than their indices hold."""
    out, kind = tmp_path / f"out{suffix}", pa.dictionary(pa.int8(), pa.string())
    names = [[f"name {number}" for number in range(first, first + 100)] for first in (0, 50, 100)]
    batches = [pa.record_batch({"name": pa.array(each, kind)}) for each in names]
    with Output(out, id_type="int64", options=EmbedOptions(), kept_schema=batches[0].schema) as output:
        for number, batch in enumerate(batches):
            first = number * 100
            output.write(RowBatch(first, list(range(first, first + 100)), [], batch), reply(100))
    table = parquet.read_table(out) if suffix == ".parquet" else pa.ipc.open_file(out).read_all()
    assert table["name"].cast(pa.string()).to_pylist() == [name for each in names for name in each]
