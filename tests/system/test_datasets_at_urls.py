"""A dataset from and to an S3-compatible store that really runs."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import fs, parquet
from redis.asyncio import Redis
from support.datasets import CountingEmbedder, part_table, settings, vector_of
from support.object_store import KEYS, s3_server
from support.paths import ROOT
from support.serving import MODEL, worker

from producer.datasets import Dataset, RunLock, Target, plan_dataset, run_dataset
from producer.embedded.services import EmbeddedServer
from producer.errors import FileError
from producer.files import expand

pytestmark = [pytest.mark.object_stores, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def store_server() -> Iterator[str]:
    """An S3 server for all tests of this file."""
    with s3_server() as url:
        yield url


@pytest.fixture
def store(store_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> fs.FileSystem:
    """The store; credentials and endpoint are in the environment, the bucket `name_of` is there."""
    for name, value in {**KEYS, "AWS_ENDPOINT_URL": store_server}.items():
        monkeypatch.setenv(name, value)
    found = fs.S3FileSystem(
        endpoint_override=store_server, region=KEYS["AWS_REGION"], allow_bucket_creation=True
    )
    found.create_dir(name_of(tmp_path))
    return found


def name_of(tmp_path: Path) -> str:
    return "".join(character for character in tmp_path.name if character.isalnum()).lower()


def put_parts(store: fs.FileSystem, bucket: str, *, parts: int, size: int) -> None:
    for number in range(parts):
        with store.open_output_stream(f"{bucket}/in/part-{number:03}.parquet") as stream:
            parquet.write_table(part_table(number * size, size), stream)


def output(store: fs.FileSystem, bucket: str) -> pa.Table:
    found = store.get_file_info(fs.FileSelector(f"{bucket}/out"))
    paths = sorted(each.path for each in found if each.path.endswith(".parquet"))
    return pa.concat_tables([parquet.read_table(path, filesystem=store) for path in paths])


def assert_all(store: fs.FileSystem, bucket: str, *, rows: int) -> pa.Table:
    source, found = part_table(0, rows), output(store, bucket)
    for name in source.column_names:
        assert found[name].to_pylist() == source[name].to_pylist(), name
    return found


def planned(bucket: str, **more: object) -> tuple[Dataset, RunLock]:
    target = Target(f"s3://{bucket}/out/")
    lock = RunLock(target, None)
    lock.take()
    return plan_dataset(expand([f"s3://{bucket}/in/"]), target, settings(**more)), lock


async def test_parts_go_from_and_to_a_store(store: fs.FileSystem, tmp_path: Path) -> None:
    """Once; a second run is refused while the first has the lock, and then finds nothing to do."""
    bucket = name_of(tmp_path)
    put_parts(store, bucket, parts=4, size=30)
    dataset, lock = planned(bucket)
    with pytest.raises(FileError, match=rf"s3://{bucket}/out: another run is writing it"):
        RunLock(Target(f"s3://{bucket}/out"), None).take()
    embedder = CountingEmbedder()
    await run_dataset(embedder, dataset, lock, batch_texts=8)
    lock.release()
    found = assert_all(store, bucket, rows=120)
    assert found["vector"].to_pylist() == [vector_of(text).tolist() for text in found["text"].to_pylist()]
    dataset, lock = planned(bucket)
    lock.release()
    assert (dataset.tasks, len(dataset.finished)) == ((), 4)

    table = part_table(0, 30, changed=lambda row: row == 7)
    with store.open_output_stream(f"{bucket}/in/part-000.parquet") as stream:
        parquet.write_table(table, stream)
    dataset, lock = planned(bucket, only_new=True)
    embedder = CountingEmbedder()
    await run_dataset(embedder, dataset, lock)
    lock.release()
    assert embedder.texts == ["another text of row 7"]
    assert output(store, bucket)["text"].to_pylist()[:30] == table["text"].to_pylist()


def start(url: str, bucket: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "producer", "embed", f"s3://{bucket}/in/", "-o", f"s3://{bucket}/out/"]
    return subprocess.Popen(
        [*command, "--model", MODEL, "--redis-url", url, "--keep-columns", "all"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
async def test_a_producer_that_is_killed(
    redis: Redis, server: EmbeddedServer, store: fs.FileSystem, tmp_path: Path
) -> None:
    """Ten times, 200,000 rows in 20 parts: every row once, and the next run is quick."""
    bucket, chance = name_of(tmp_path), random.Random(5)
    put_parts(store, bucket, parts=20, size=10_000)
    async with worker(server.url):
        for _ in range(10):
            with start(server.url, bucket, tmp_path) as run:
                await asyncio.sleep(chance.uniform(1.0, 4.0))
                run.send_signal(signal.SIGKILL)
        with start(server.url, bucket, tmp_path) as run:
            _, errors = await asyncio.to_thread(run.communicate)
        assert run.returncode == 0, errors
        assert_all(store, bucket, rows=200_000)
        started_s = time.monotonic()
        with start(server.url, bucket, tmp_path) as run:
            told, _ = await asyncio.to_thread(run.communicate)
        assert time.monotonic() - started_s < 5
        assert told == f"up to date: s3://{bucket}/out has all 20 parts with 200,000 rows\n"
