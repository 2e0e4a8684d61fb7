"""Inputs on the Hugging Face Hub, against a hub of the tests' own."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
from pyarrow import parquet
from support.hub import hub

PROGRAM = """
import sys
from producer.errors import FileError
from producer.files import expand, open_reader
for source in expand(["hf://org/model/data"]):
    with open_reader(source) as reader:
        texts = [text for batch in reader.batches(max_texts=500, max_bytes=10**6) for text in batch.texts]
    print(source.location, source.name, len(texts), texts[-1], bool(source.etag_or_mtime))
try:
    expand(["hf://org/other/data"])
except FileError as error:
    print(error)
"""


def test_a_repository_of_the_hub_holds_inputs(tmp_path: Path) -> None:
    """A directory of a repository stands for its files; a repository that is not there is refused."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.jsonl").write_text('{"text": "a"}\n')
    parquet.write_table(
        pa.table({"text": [f"t{row}" for row in range(1000)]}), tmp_path / "data" / "b.parquet"
    )
    with hub(tmp_path, name="org/model") as url:
        # The library reads its address when it is imported.
        environment = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True
        )
    first, second, third = done.stdout.splitlines()
    assert first == "hf://org/model/data/a.jsonl a.jsonl 1 a True"
    assert second == "hf://org/model/data/b.parquet b.parquet 1000 t999 True"
    assert third.startswith("hf://org/other/data: cannot be read")
