"""An interrupted run resumes: what it has written is not done again."""

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from redis.asyncio import Redis
from support.paths import ROOT
from support.redis_hashes import hget
from support.serving import MODEL, worker

from producer import Client
from producer.contract import EmbedOptions, Keys, Provenance, Reply, TextFailure, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import FileError, WorkerError
from producer.files import Output, RowBatch, Totals
from producer.transport.connect import connect

KEYS = Keys(queue_name(MODEL))
SOURCE = Provenance(model="m", revision="r1", profile_id="p", profile_name="cpu", precision="fp32")
IDENTITY = {"input": "in.jsonl", "--truncate": "NONE"}
SUFFIXES = [".jsonl", ".npy", ".parquet", ".arrow"]


def reply(size: int, *, seed: int, failed: bool = False, revision: str = "r1") -> Reply:
    return Reply(
        vectors=np.random.default_rng(seed).standard_normal((size, 3), dtype=np.float32),
        failures=(TextFailure(0, "too_long", "text 0 has 9 tokens"),) if failed else (),
        token_counts=np.full(size, 2, dtype=np.int32),
        truncated=np.array([size - 1], dtype=np.int32),
        scale=None,
        provenance=replace(SOURCE, revision=revision),
    )


def write(output: Output, sizes: list[int], first: int = 0) -> None:
    """One batch a size; every second one begins with a failed text."""
    row = sum(sizes[:first])
    for number in range(first, len(sizes)):
        size = sizes[number]
        answer = reply(size, seed=number, failed=number % 2 == 1)
        output.write(RowBatch(row, [f"id{row + n}" for n in range(size)], []), answer)
        row += size


def opened(path: Path, **more: Any) -> Output:
    standard: dict[str, Any] = {"id_type": "string", "options": EmbedOptions(), "identity": IDENTITY}
    return Output(path, **{**standard, **more})


def interrupted(path: Path, sizes: list[int], **more: object) -> Output:
    """An output that Ctrl-C ended after those batches."""
    output = opened(path, **more)
    first = sum(output.earlier.num_texts >= sum(sizes[: n + 1]) for n in range(len(sizes)))

    def stop() -> None:
        with output:
            write(output, sizes, first)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    return output


def contents(folder: Path) -> dict[str, object]:
    """All files; Parquet as what it holds, since its row groups may be cut elsewhere."""
    return {
        path.name: (parquet.read_table(path), parquet.read_metadata(path).metadata[b"embedmill"])
        if path.suffix == ".parquet"
        else path.read_bytes()
        for path in folder.iterdir()
    }


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=6),
    suffix=st.sampled_from(SUFFIXES),
    data=st.data(),
)
def test_the_files_are_those_of_a_run_without_interruption(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], suffix: str, data: st.DataObject
) -> None:
    """However often it was interrupted: vectors, ids, failures, description and counts."""
    whole, pieces = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("pieces")
    with opened(whole / f"out{suffix}") as output:
        write(output, sizes)
    for stop in sorted(data.draw(st.sets(st.integers(1, len(sizes) - 1), min_size=1))):
        left = interrupted(pieces / f"out{suffix}", sizes[:stop])
        assert left.num_kept == sum(sizes[:stop])
        assert not (pieces / f"out{suffix}").exists()
    with opened(pieces / f"out{suffix}") as resumed:
        assert resumed.earlier.num_texts == sum(sizes[:stop])
        write(resumed, sizes, stop)
    assert resumed.totals == output.totals
    assert resumed.sources == output.sources
    assert contents(pieces) == contents(whole)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_run_of_another_identity_starts_over(tmp_path: Path, suffix: str) -> None:
    """It says what differs, and leaves nothing of the earlier run."""
    out = tmp_path / f"out{suffix}"
    interrupted(out, [3, 2])
    with opened(out, identity={**IDENTITY, "--truncate": "END"}) as output:
        assert output.unusable == f"{out}.part was left by a run with another --truncate"
        assert output.earlier.num_texts == 0
        write(output, [1])
    assert not {path.name for path in tmp_path.iterdir()} & {
        f"{out.name}.progress", f"{out.name}.part", f"{out.name}.errors.jsonl.part"
    }  # fmt: skip


def test_a_restart_uses_nothing(tmp_path: Path) -> None:
    """Although it could."""
    out = tmp_path / "out.npy"
    interrupted(out, [3])
    with opened(out, restart=True) as output:
        assert (output.earlier.num_texts, output.unusable) == (0, "")
        write(output, [1])
    assert np.load(out).shape == (1, 3)


def test_parts_that_were_touched_are_not_trusted(tmp_path: Path) -> None:
    """A part shorter than what was saved of it is done again."""
    out = tmp_path / "out.npy"
    interrupted(out, [3])
    os.truncate(f"{out}.part", 130)
    with opened(out) as output:
        assert "does not match" in output.unusable
        write(output, [2])
    assert np.load(out).shape == (2, 3)


@pytest.mark.parametrize("rubbish", ["", "{}", "[1]", '{"version": 9}', '{"version": 1, "totals": {}}'])
def test_a_ledger_that_is_not_ours_is_not_trusted(tmp_path: Path, rubbish: str) -> None:
    """The run starts over and says so."""
    out = tmp_path / "out.npy"
    interrupted(out, [3])
    Path(f"{out}.progress").write_text(rubbish)
    with opened(out) as output:
        assert "before it saved its progress" in output.unusable
        write(output, [2])


@contextmanager
def full_disk(*, at_bytes: int) -> Iterator[None]:
    """No file can grow beyond that."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (at_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_batch_that_was_half_written_is_done_again(tmp_path: Path) -> None:
    """A disk that was full in the middle of a batch leaves what was saved before it, room or not."""
    out = tmp_path / "out.jsonl"
    output = opened(out, save_every_s=0)

    def fill() -> None:
        with output:
            write(output, [3])
            with full_disk(at_bytes=4 << 20):
                write(output, [3, 100_000], 1)

    with pytest.raises(FileError, match=r"File too large.*free some space"):
        fill()
    assert output.num_kept == 3
    with opened(out) as resumed:
        assert resumed.earlier == Totals().plus(reply(3, seed=0))
        write(resumed, [3, 2], 1)
    assert len(out.read_text().splitlines()) == 5


def test_other_vectors_do_not_go_behind_the_earlier_ones(tmp_path: Path) -> None:
    """A model revision that changed meanwhile ends the run, and what was there stays kept."""
    out = tmp_path / "out.npy"
    interrupted(out, [3])
    output = opened(out)
    with pytest.raises(WorkerError, match="same model revision"), output:
        output.write(RowBatch(3, ["x"], []), reply(1, seed=1, revision="r2"))
    assert output.num_kept == 3


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_run_is_gone_on_with(tmp_path: Path, suffix: str) -> None:
    """What was saved counts, in Parquet too, whose rows lie in a journal until the end."""
    out = tmp_path / f"out{suffix}"
    script = (
        "import os, signal, sys; from pathlib import Path; from test_resume import opened, write\n"
        "output = opened(Path(sys.argv[1]), save_every_s=0)\n"
        "write(output, [3, 2]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = {**os.environ, "PYTHONPATH": f"{ROOT / 'tests' / 'producer'}:{ROOT / 'tests'}:{ROOT}"}
    killed = subprocess.run([sys.executable, "-c", script, str(out)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    with opened(out) as output:
        assert (output.earlier.num_texts, output.unusable) == (5, "")
        write(output, [3, 2, 1], 2)
    assert output.totals.num_texts == 6
    assert {path.name for path in tmp_path.iterdir()} <= {
        out.name, f"{out.name}.errors.jsonl", f"{out.name}.meta.json", f"{out.name}.ids.jsonl"
    }  # fmt: skip


def start(url: str, folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "producer", "embed", "in.txt", "-o", "out.npy", "--model", MODEL]
    return subprocess.Popen(
        [*command, "--redis-url", url, "--batch-texts", "2", "--max-in-flight", "4", *more],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )


async def until_waiting(redis: Redis, count: int, keys: Keys = KEYS) -> None:
    for _ in range(1000):
        if await redis.zcard(keys.pending) == count:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"never {count} jobs")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
async def test_a_signal_takes_the_jobs_off_the_queue(
    redis: Redis, server: EmbeddedServer, tmp_path: Path, number: int, status: int
) -> None:
    """But for the one that somebody else wants; the person reads how many, and no row was done."""
    (tmp_path / "in.txt").write_text("".join(f"text {n}\n" for n in range(20)))
    keys = Keys(KEYS.queue, "other")
    with start(server.url, tmp_path, "--run", "mine", "--prefix", keys.prefix) as run:
        await until_waiting(redis, 4, keys)
        async with Client(server.url, model=MODEL, prefix=keys.prefix) as client:
            assert (await client.submit(["text 2", "text 3"])).joined
        run.send_signal(number)
        assert run.wait(20) == status
        assert run.stderr is not None
        end = "interrupted" if number == signal.SIGINT else "terminated"
        assert run.stderr.read().splitlines() == ["run mine", "3 jobs cancelled on the queue", end]
    assert await redis.zcard(keys.pending) == 1
    assert os.listdir(tmp_path) == ["in.txt"]


async def test_a_second_start_does_the_rest(redis: Redis, server: EmbeddedServer, tmp_path: Path) -> None:
    """Of a run that was interrupted when its worker had gone."""
    (tmp_path / "in.txt").write_text("".join(f"text {n}\n" for n in range(600)))
    with start(server.url, tmp_path) as run:
        async with worker(server.url, backend={"delay_s": 0.02}):
            for _ in range(1000):
                if int(await hget(redis, KEYS.totals, "done") or 0) > 20:
                    break
                await asyncio.sleep(0.01)
        await until_waiting(redis, 4)
        run.send_signal(signal.SIGINT)
        assert run.wait(20) == 130
        assert run.stderr is not None
        *_, kept, _ = run.stderr.read().splitlines()
    done = int(await hget(redis, KEYS.totals, "done") or 0)
    assert kept == f"{2 * done} rows are kept beside out.npy; run the same command to resume"
    async with worker(server.url):
        with start(server.url, tmp_path) as run:
            status = await asyncio.to_thread(run.wait, 50)
            assert run.stderr is not None
            assert run.stderr.readline() == f"resuming after the {2 * done} rows of an interrupted run\n"
        assert status == 0
        assert await redis.keys(KEYS.result("*")) == []  # each was deleted once it was read
        async with Client(server.url, model=MODEL) as client:
            vectors = (await client.embed([f"text {n}" for n in range(600)])).vectors
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), vectors)


async def test_a_second_signal_ends_at_once(program: str, tmp_path: Path) -> None:
    """Also while the first one's end waits for a server that does not answer."""
    (tmp_path / "in.txt").write_text("a text\n")
    with EmbeddedServer(program=program) as server:
        async with connect(server.url) as redis:
            with start(server.url, tmp_path) as run:
                await until_waiting(redis, 1)
                await redis.execute_command("CLIENT", "PAUSE", "20000", "ALL")
                run.send_signal(signal.SIGINT)
                with pytest.raises(subprocess.TimeoutExpired):
                    run.wait(1)
                run.send_signal(signal.SIGINT)
                assert run.wait(1) == 130
