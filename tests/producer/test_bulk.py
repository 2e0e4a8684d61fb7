"""A file goes through a client in order, in bounded memory, each bad row failing alone."""

import asyncio
import gzip
import json
import random
import threading
import zlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from producer.bulk import Summary, embed_file
from producer.contract import EmbedOptions, Provenance, Reply, TextFailure
from producer.contract.request import check_text
from producer.errors import FileError, JobFailed
from producer.files import Output, RowBatch, open_reader

SOURCE = Provenance(model="m", revision="r1", profile_id="p", profile_name="cpu", precision="fp32")
OPTIONS = EmbedOptions()


class FakeClient:
    """Answers like the real one, from nothing but the text; remembers how many jobs were under way."""

    num_withdrawn = 0

    def __init__(self, *, dim: int = 4, die_at_batch: int | None = None) -> None:
        self.dim = dim
        self.die_at_batch = die_at_batch
        self.batch_sizes: list[int] = []
        self.max_waiting = 0

    async def num_workers(self) -> int:
        return 1

    async def embed_many(
        self, batches: AsyncIterator[Sequence[object]], options: EmbedOptions, *, max_in_flight: int
    ) -> AsyncGenerator[Reply, None]:
        window: deque[Sequence[object]] = deque()
        async for texts in batches:
            if len(window) >= max_in_flight:
                yield await self.answer(window.popleft())
            window.append(texts)
            self.batch_sizes.append(len(texts))
            self.max_waiting = max(self.max_waiting, len(window))
        while window:
            yield await self.answer(window.popleft())

    async def answer(self, texts: Sequence[object]) -> Reply:
        await asyncio.sleep(0)
        if self.die_at_batch is not None and len(self.batch_sizes) >= self.die_at_batch:
            raise JobFailed("backend_dead", "the job failed")
        checked = [check_text(index, text) for index, text in enumerate(texts)]
        failures = tuple(item for item in checked if isinstance(item, TextFailure))
        seeds = [zlib.crc32(item.encode()) if isinstance(item, str) else 0 for item in checked]
        vectors = np.repeat(np.array(seeds, dtype=np.float32)[:, None], self.dim, axis=1)
        return Reply(
            vectors=vectors,
            failures=failures,
            token_counts=np.array([isinstance(item, str) for item in checked], dtype=np.int32),
            truncated=np.array([0] if isinstance(checked[0], str) else [], dtype=np.int32),
            scale=None,
            provenance=SOURCE,
        )


async def run(client: FakeClient, source: Path, target: Path, **settings: Any) -> Summary:
    with (
        open_reader(str(source)) as reader,
        Output(target, id_type=reader.id_type, options=OPTIONS, overwrite=True) as output,
    ):
        return await embed_file(client, reader, output, options=OPTIONS, **settings)


def write_jsonl(path: Path, texts: Iterable[object]) -> None:
    path.write_text(
        "".join(json.dumps({"id": str(row), "text": text}) + "\n" for row, text in enumerate(texts))
    )


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.one_of(st.none(), st.integers(), st.text(max_size=6)), min_size=1, max_size=60),
    batch_texts=st.integers(1, 20),
    max_in_flight=st.integers(1, 5),
)
def test_every_row_has_its_own_vector(
    tmp_path: Path, texts: list[object], batch_texts: int, max_in_flight: int
) -> None:
    """Row i of the output is text i's vector or null, whatever the batches; failures are counted by code."""
    write_jsonl(tmp_path / "in.jsonl", texts)
    client = FakeClient()
    out = tmp_path / "out.parquet"
    summary = asyncio.run(
        run(client, tmp_path / "in.jsonl", out, batch_texts=batch_texts, max_in_flight=max_in_flight)
    )
    table = parquet.read_table(out)
    good = [check_text(0, text) is text for text in texts]
    assert table["id"].to_pylist() == [str(row) for row in range(len(texts))]
    assert [None if vector is None else vector[0] for vector in table["vector"].to_pylist()] == [
        float(np.float32(zlib.crc32(str(text).encode()))) if ok else None
        for text, ok in zip(texts, good, strict=True)
    ]
    assert max(client.batch_sizes) <= batch_texts
    assert client.max_waiting <= max_in_flight
    assert summary.num_texts == len(texts)
    assert summary.num_failed == good.count(False)
    assert summary.num_tokens == good.count(True)
    assert set(summary.failed) <= {"not_a_string", "invalid_unicode"}


async def test_batches_are_bounded_by_bytes(tmp_path: Path) -> None:
    """Texts are counted in UTF-8 bytes too: no job goes over the 8 MiB that a queue takes."""
    write_jsonl(tmp_path / "in.jsonl", ["ä" * 500_000] * 20)
    client = FakeClient()
    summary = await run(client, tmp_path / "in.jsonl", tmp_path / "out.npy")
    assert client.batch_sizes == [8, 8, 4]
    assert summary.num_failed == 0


async def test_a_text_over_the_limit_fails_alone(tmp_path: Path) -> None:
    """A text of 10 MB has its line in the errors file, the rows beside it their vectors."""
    write_jsonl(tmp_path / "in.jsonl", ["a", "b" * 10_000_000, "c"])
    out = tmp_path / "out.jsonl"
    summary = await run(FakeClient(), tmp_path / "in.jsonl", out)
    assert summary.failed == {"text_too_large": 1}
    (error,) = (tmp_path / "out.jsonl.errors.jsonl").read_text().splitlines()
    assert (json.loads(error)["row"], json.loads(error)["id"]) == (1, "1")
    assert json.loads(error)["message"].startswith("row 1 has 10000000 bytes")
    vectors = [json.loads(line)["vector"] for line in out.read_text().splitlines()]
    assert [vector is None for vector in vectors] == [False, True, False]


async def test_progress_grows_to_the_summary(tmp_path: Path) -> None:
    """Each answered batch reports the run so far; the last report is the summary."""
    write_jsonl(tmp_path / "in.jsonl", ["a"] * 10)
    reports: list[Summary] = []
    summary = await run(
        FakeClient(), tmp_path / "in.jsonl", tmp_path / "out.npy", batch_texts=4, on_progress=reports.append
    )
    assert [report.num_texts for report in reports] == [4, 8, 10]
    assert (summary.num_texts, summary.num_truncated, summary.sources) == (10, 3, (SOURCE,))
    assert reports[-1].estimated_texts == 10


async def test_a_failed_job_ends_the_run(tmp_path: Path) -> None:
    """What the client raises comes through, and nothing is published."""
    write_jsonl(tmp_path / "in.jsonl", ["a"] * 10)
    with pytest.raises(JobFailed):
        await run(FakeClient(die_at_batch=3), tmp_path / "in.jsonl", tmp_path / "out.npy", batch_texts=2)
    assert names_in(tmp_path) == ["in.jsonl"]


async def test_damage_found_late_ends_the_run(tmp_path: Path) -> None:
    """A file that turns out to be damaged in the middle is FileError, and nothing is published."""
    lines = "".join(f'{{"text": "{random.random()}"}}\n' for _ in range(50_000))
    (tmp_path / "in.jsonl.gz").write_bytes(gzip.compress(lines.encode())[:-1000])
    with pytest.raises(FileError, match="cannot be read"):
        await run(FakeClient(), tmp_path / "in.jsonl.gz", tmp_path / "out.parquet")
    assert names_in(tmp_path) == ["in.jsonl.gz"]


async def test_cancellation_waits_for_the_disk(tmp_path: Path) -> None:
    """A cancelled run lets the write under way finish, then leaves nothing."""
    write_jsonl(tmp_path / "in.jsonl", ["a"] * 100)
    writing, go_on = threading.Event(), threading.Event()

    class SlowOutput(Output):
        def write(self, rows: RowBatch, reply: Reply, *, digests: bytes = b"") -> None:
            writing.set()
            assert go_on.wait(10)
            super().write(rows, reply, digests=digests)

    async def embed() -> None:
        with (
            open_reader(str(tmp_path / "in.jsonl")) as reader,
            SlowOutput(tmp_path / "out.parquet", id_type=reader.id_type, options=OPTIONS) as output,
        ):
            await embed_file(FakeClient(), reader, output, options=OPTIONS)

    task = asyncio.create_task(embed())
    await asyncio.to_thread(writing.wait, 10)
    task.cancel()
    await asyncio.sleep(0.05)
    assert not task.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names_in(tmp_path) == ["in.jsonl"]


async def test_memory_is_flat(tmp_path: Path) -> None:
    """200,000 rows, 100 MB of vectors, take no more memory at the end than after the first quarter."""
    num_rows, dim = 200_000, 128
    with (tmp_path / "in.jsonl").open("w") as file:
        file.writelines(
            f'{{"id": "{row}", "text": "text {row} {"word " * 30}"}}\n' for row in range(num_rows)
        )
    process = psutil.Process()
    sizes: list[int] = []
    summary = await run(
        FakeClient(dim=dim),
        tmp_path / "in.jsonl",
        tmp_path / "out.parquet",
        on_progress=lambda summary: sizes.append(process.memory_info().rss),
    )
    assert summary.num_texts == num_rows
    assert parquet.read_metadata(tmp_path / "out.parquet").num_rows == num_rows
    quarter = len(sizes) // 4
    # Kept vectors would add 75 MB; the allocators of a large test process wander by some 30.
    assert max(sizes) - max(sizes[:quarter]) < 55_000_000
