"""Files that other programs wrote: all of them hold the same rows, and all of them are read."""

import json
from typing import Any

import pytest
from support.inputs import kept_of, rows_in
from support.paths import ROOT

from producer.errors import FileError
from producer.files import Dialect

FOLDER = ROOT / "tests" / "data" / "odd_files"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name not in ("make.py", "expected.json"))
EXPECTED = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))

#: What a user has to say of a file; all others are read as they are.
SAID: dict[str, dict[str, Any]] = {
    "duckdb_nested.jsonl": {"text": "doc.text"},
    "duckdb_nested.parquet": {"text": "doc.text"},
    "excel_ansi.csv": {"dialect": Dialect(encoding="cp1252")},
    "pandas_cp1252.csv.xz": {"dialect": Dialect(encoding="cp1252")},
}
#: Ids that are neither the numbers 1, 2, 3 nor their digits.
OTHER_IDS = {
    "duckdb_uuid.parquet": [f"00000000-0000-0000-0000-00000000000{number}" for number in (1, 2, 3)],
    "pyarrow_timestamp_ids.parquet": [f"1970-01-01 00:00:00.00000000{number}Z" for number in (1, 2, 3)],
}


def with_plain_line_ends(texts: list[Any]) -> list[str]:
    """The texts; some programs write line ends within a text as those of the file."""
    return [text.replace("\r\n", "\n") for text in texts]


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_program_is_read(name: str) -> None:
    """Ids and texts come out as they went in; a typed file's ids are numbers, a CSV file's are digits."""
    rows = rows_in(FOLDER / name, **SAID.get(name, {}))
    is_excel = name.startswith("excel")
    assert (
        with_plain_line_ends([text for _, text in rows]) == EXPECTED["windows_texts" if is_excel else "texts"]
    )
    digits = [str(number) for number in EXPECTED["ids"]]
    usual = digits if ".csv" in name or ".tsv" in name else EXPECTED["ids"]
    if name in ("csvkit.json", "csvkit_stream.jsonl"):  # which was told to leave types alone
        usual = digits
    assert [row_id for row_id, _ in rows] == OTHER_IDS.get(name, usual)


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith(("pandas", "polars", "duckdb."))])
def test_kept_columns_of_other_programs_come_along(name: str) -> None:
    """The column of scores is kept as the file has it."""
    scores = kept_of(FOLDER / name, "score", **SAID.get(name, {}))["score"].to_pylist()
    if ".csv" in name or ".tsv" in name:
        assert [float(score) if score else None for score in scores] == [0.5, None, 2.0]
    else:
        assert scores == [0.5, None, 2.0]


def test_doubled_names_matter_only_where_they_are_asked_for() -> None:
    """A file with two columns of one name is read; keeping that name is refused, all too."""
    path = FOLDER / "pyarrow_doubled_names.parquet"
    assert kept_of(path, "text").num_rows == 3
    for names in (("score",), ()):
        with pytest.raises(FileError, match="two columns are named 'score'"):
            kept_of(path, *names)


def test_there_are_about_fifty() -> None:
    """No file was left out of the folder by mistake."""
    assert len(FILES) >= 50
    assert {name.partition("_")[0].partition(".")[0] for name in FILES} == {
        "pandas", "polars", "duckdb", "pyarrow", "excel", "csvkit",
    }  # fmt: skip
    assert all((FOLDER / name).stat().st_size < 4096 for name in FILES)
