"""Makes the files of this folder: the same rows, written by the programs that people use.

    pip install pandas polars duckdb pyarrow csvkit openpyxl
    python tests/data/odd_files/make.py

Run it again only to add a program or a newer version of one; the files are committed.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path

import duckdb
import openpyxl
import pandas as pd
import polars as pl
import pyarrow as pa
from pyarrow import csv as pa_csv
from pyarrow import feather, orc, parquet

HERE = Path(__file__).parent
IDS = [1, 2, 3]
TEXTS = ["hello, world", 'größer; "Zeile"\nzwei', "a | b\tc's"]
SCORES = [0.5, None, 2.0]
WINDOWS_TEXTS = ["hello, world", 'größer; "Zeile" zwei', "a | b's"]


def pandas_files() -> None:
    frame = pd.DataFrame({"id": IDS, "text": TEXTS, "score": SCORES})
    frame.to_csv(HERE / "pandas.csv")  # with its index, which has no name
    frame.to_csv(HERE / "pandas_semicolon.csv.gz", sep=";", index=False)
    frame.to_csv(HERE / "pandas_all_quoted.csv.bz2", index=False, quoting=csv.QUOTE_ALL)
    frame.to_csv(HERE / "pandas_escaped.csv", index=False, doublequote=False, escapechar="\\")
    frame.to_csv(HERE / "pandas_utf16.tsv", sep="\t", index=False, encoding="utf-16")
    frame.to_csv(HERE / "pandas_cp1252.csv.xz", index=False, encoding="cp1252")
    frame.to_json(HERE / "pandas.json", orient="records")
    frame.to_json(HERE / "pandas_indented.json", orient="records", indent=2, force_ascii=False)
    frame.to_json(HERE / "pandas.jsonl.gz", orient="records", lines=True)
    frame.to_json(HERE / "pandas_lines.json", orient="records", lines=True)
    frame.assign(key=["x", "y", "z"]).set_index("key").to_parquet(HERE / "pandas_index.parquet")
    frame.astype({"text": "category"}).to_parquet(HERE / "pandas_category.parquet")
    frame.to_feather(HERE / "pandas.feather")
    frame.to_orc(HERE / "pandas.orc")


def polars_files() -> None:
    frame = pl.DataFrame({"id": IDS, "text": TEXTS, "score": SCORES})
    frame.write_csv(HERE / "polars.csv")
    frame.write_csv(HERE / "polars.tsv", separator="\t", line_terminator="\r\n")
    frame.write_csv(HERE / "polars_bom.csv", include_bom=True, quote_style="always")
    frame.write_ndjson(HERE / "polars.ndjson")
    frame.write_json(HERE / "polars.json")
    frame.write_parquet(HERE / "polars.parquet")
    frame.write_ipc(HERE / "polars.arrow")
    frame.write_ipc(HERE / "polars_zstd.ipc", compression="zstd")
    frame.write_ipc_stream(HERE / "polars.arrows")
    frame.cast({"text": pl.Categorical, "id": pl.UInt16}).write_parquet(HERE / "polars_categorical.parquet")


def duckdb_files() -> None:
    frame = pd.DataFrame({"id": IDS, "text": TEXTS, "score": SCORES})
    connection = duckdb.connect()
    connection.register("frame", frame)
    for name, options in (
        ("duckdb.csv", "HEADER"),
        ("duckdb_pipe.csv", "HEADER, DELIMITER '|'"),
        ("duckdb_quoted.csv.gz", "HEADER, FORCE_QUOTE *, COMPRESSION gzip"),
        ("duckdb_escape.csv", "HEADER, ESCAPE '\\'"),
        ("duckdb.jsonl.zst", "FORMAT json, COMPRESSION zstd"),
        ("duckdb.json", "FORMAT json, ARRAY true"),
        ("duckdb.parquet", "FORMAT parquet, COMPRESSION zstd"),
    ):
        connection.execute(f"COPY frame TO '{HERE / name}' ({options})")
    nested = "SELECT id, {'text': text, 'n': id} AS doc, [score] AS scores FROM frame"
    connection.execute(f"COPY ({nested}) TO '{HERE / 'duckdb_nested.parquet'}' (FORMAT parquet)")
    connection.execute(f"COPY ({nested}) TO '{HERE / 'duckdb_nested.jsonl'}' (FORMAT json)")
    uuids = "SELECT ('00000000-0000-0000-0000-00000000000' || id)::UUID AS id, text FROM frame"
    connection.execute(f"COPY ({uuids}) TO '{HERE / 'duckdb_uuid.parquet'}' (FORMAT parquet)")


def pyarrow_files() -> None:
    plain = pa.table({"id": IDS, "text": TEXTS, "score": SCORES})
    kinds = {
        "large": pa.large_string(),
        "view": pa.string_view(),
        "binary": pa.binary(),
        "large_binary": pa.large_binary(),
    }
    for name, kind in kinds.items():
        column = pa.array(TEXTS, pa.string()).cast(kind)
        table = pa.table({"id": pa.array(IDS, pa.int8()), "text": column})
        parquet.write_table(table, HERE / f"pyarrow_{name}.parquet", store_schema=True)
    with pa.OSFile(str(HERE / "pyarrow_run_ends.arrow"), "wb") as sink:
        table = pa.table(
            {"id": IDS, "text": pa.RunEndEncodedArray.from_arrays(pa.array(IDS, pa.int32()), TEXTS)}
        )
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    dated = plain.set_column(0, "id", pa.array(IDS, pa.timestamp("ns", "UTC")))
    parquet.write_table(dated, HERE / "pyarrow_timestamp_ids.parquet", compression="brotli")
    doubled = pa.Table.from_arrays([*plain.columns, plain["score"]], names=[*plain.column_names, "score"])
    parquet.write_table(doubled, HERE / "pyarrow_doubled_names.parquet", version="1.0")
    feather.write_feather(plain, HERE / "pyarrow_lz4.feather", compression="lz4")
    orc.write_table(plain, HERE / "pyarrow_zlib.orc", compression="zlib")
    pa_csv.write_csv(plain, HERE / "pyarrow.csv")


def excel_files() -> None:
    """What Excel's "CSV", "CSV UTF-8" and "Unicode Text" are in a country with decimal commas."""
    rows = [["id", "text"], *zip(IDS, WINDOWS_TEXTS, strict=True)]
    for name, encoding, delimiter in (
        ("excel_utf8.csv", "utf-8-sig", ";"),
        ("excel_ansi.csv", "cp1252", ";"),
        ("excel_unicode.txt.tsv", "utf-16", "\t"),
    ):
        with (HERE / name).open("w", encoding=encoding, newline="") as file:
            csv.writer(file, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    with (HERE / "excel_sep.csv").open("w", encoding="utf-8-sig", newline="") as file:
        file.write("sep=;\r\n")
        csv.writer(file, delimiter=";", lineterminator="\r\n").writerows(rows)
    with (HERE / "excel_empty_columns.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([*row, "", ""] for row in rows)


def csvkit_files() -> None:
    source = HERE / "pyarrow.csv"
    for name, command in (
        ("csvkit_tabs.tsv", ["csvformat", "-T"]),
        ("csvkit_pipes.csv", ["csvformat", "-D", "|"]),
        ("csvkit_single_quotes.csv", ["csvformat", "-Q", "'", "-U", "1"]),
        ("csvkit_escaped.csv", ["csvformat", "-B", "-P", "\\", "-U", "1"]),
        ("csvkit.json", ["csvjson", "-I"]),
        ("csvkit_stream.jsonl", ["csvjson", "-I", "--stream"]),
    ):
        run(command, source, HERE / name)
    book = openpyxl.Workbook()
    for row in [["id", "text"], *zip(IDS, TEXTS, strict=True)]:
        book.active.append(row)
    book.save(HERE / "book.xlsx")
    run(["in2csv", "-I"], HERE / "book.xlsx", HERE / "csvkit_from_excel.csv")
    (HERE / "book.xlsx").unlink()


def run(command: list[str], source: Path, target: Path) -> None:
    program = Path(sys.executable).parent / command[0]
    with target.open("w", encoding="utf-8") as out:
        subprocess.run([program, *command[1:], source], stdout=out, check=True)


if __name__ == "__main__":
    for make in (pandas_files, polars_files, duckdb_files, pyarrow_files, excel_files, csvkit_files):
        make()
    expected = {"ids": IDS, "texts": TEXTS, "windows_texts": WINDOWS_TEXTS}
    (HERE / "expected.json").write_text(
        json.dumps(expected, ensure_ascii=False, indent=1) + "\n", encoding="utf-8"
    )
