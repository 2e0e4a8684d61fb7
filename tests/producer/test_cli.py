"""`producer embed` from the outside: files, output, exit status."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet
from rich.console import Console
from support.paths import ROOT

from producer.bulk import Summary
from producer.cli.main import main
from producer.cli.progress import ProgressDisplay
from producer.cli.summary import summary_lines
from producer.contract import EmbedOptions, Provenance, Reply, TextFailure
from producer.contract.request import check_text
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, QueueUnavailable
from producer.files import Totals

SOURCE = Provenance(model="m", revision="r1", profile_id="p1", profile_name="onnx-cpu", precision="fp32")
SECRET_URL = "redis://:hunter2@localhost:1/0"


class FakeClient:
    """Embeds every text as its length; a text "die" fails its job."""

    num_withdrawn = 0

    async def num_workers(self) -> int:
        return 1

    async def embed_many(
        self, batches: AsyncIterator[Sequence[object]], options: EmbedOptions, *, max_in_flight: int
    ) -> AsyncGenerator[Reply, None]:
        async for texts in batches:
            if "die" in texts:
                raise JobFailed("backend_dead", "the job failed")
            checked = [check_text(index, text) for index, text in enumerate(texts)]
            lengths = [[len(item) if isinstance(item, str) else np.nan] for item in checked]
            yield Reply(
                vectors=np.array(lengths, dtype=options.embedding_type),
                failures=tuple(item for item in checked if isinstance(item, TextFailure)),
                token_counts=np.ones(len(texts), dtype=np.int32),
                truncated=np.array([], dtype=np.int32),
                scale=None,
                provenance=SOURCE,
            )


@asynccontextmanager
async def connect(redis_url: str, **_: object) -> AsyncIterator[FakeClient]:
    if redis_url == SECRET_URL:
        raise QueueUnavailable("no Redis at localhost:1")
    yield FakeClient()


def embed(*arguments: object, obj: object = connect, **more: Any) -> Result:
    return CliRunner().invoke(main, ["embed", *map(str, arguments), "--model", "m"], obj=obj, **more)


def put(path: Path, *texts: object) -> Path:
    path.write_text(
        "".join(json.dumps({"id": f"id{row}", "text": text}) + "\n" for row, text in enumerate(texts))
    )
    return path


def test_without_a_command_it_helps() -> None:
    """`producer` and `producer embed` alone print help."""
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 0
    assert "embed" in result.output
    assert "--text-column" in CliRunner().invoke(main, ["embed"]).output


def test_all_embedded_is_0(tmp_path: Path) -> None:
    """Every text has its vector: status 0, a summary, and the file."""
    result = embed(put(tmp_path / "in.jsonl", "a", "bcd"), "-o", tmp_path / "out.parquet")
    assert result.exit_code == 0
    assert parquet.read_table(tmp_path / "out.parquet")["vector"].to_pylist() == [[1.0], [3.0]]
    for part in (
        "texts      2 in",
        "texts/s",
        "tokens     2",
        "failed     0",
        "m (r1)",
        "onnx-cpu (p1), fp32",
    ):
        assert part in result.stdout
    assert re.search(r"output     .*out\.parquet \([\d.]+ (bytes|KiB)\)", result.stdout)
    assert re.fullmatch(r"run \d{8}-\d{6}-[0-9a-f]{4}\n", result.stderr)


@pytest.mark.parametrize("name", ["out.parquet", "out.arrow", "out.jsonl", "out.npy"])
def test_an_output_is_made_once(tmp_path: Path, name: str) -> None:
    """The same command says that it is there; another one is refused, and replaces it only on request."""
    source, out = put(tmp_path / "in.jsonl", "a", "bcd"), tmp_path / name
    assert embed(source, "-o", out).exit_code == 0
    again = embed(source, "-o", out)
    assert (again.exit_code, again.output) == (0, f"up to date: {out} has all rows\n")
    put(tmp_path / "in.jsonl", "a", "bcd", "e")
    changed = embed(source, "-o", out)
    assert (changed.exit_code, "--overwrite" in changed.stderr) == (2, True)
    assert "texts      3 in" in embed(source, "-o", out, "--overwrite").stdout


def test_failed_texts_are_1(tmp_path: Path) -> None:
    """Some texts failed: status 1, the codes with their counts, and the place of the errors file."""
    result = embed(put(tmp_path / "in.jsonl", "a", None, 7), "-o", tmp_path / "out.npy")
    assert result.exit_code == 1
    assert "failed     2\n  not_a_string  2" in result.stdout
    assert "out.npy.errors.jsonl" in result.stdout
    assert np.isnan(np.load(tmp_path / "out.npy")[:, 0]).tolist() == [False, True, True]


def test_quiet_says_nothing(tmp_path: Path) -> None:
    """--quiet leaves the exit status only."""
    result = embed(put(tmp_path / "in.jsonl", None), "-o", tmp_path / "out.jsonl", "--quiet")
    assert (result.exit_code, result.output) == (1, "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["absent.jsonl", "-o", "out.parquet"], "error [file_error]: absent.jsonl"),
        (["in.jsonl", "-o", "out.xlsx"], "error [file_error]: out.xlsx"),
        (["in.jsonl", "-o", "absent/out.npy"], "error [file_error]: absent/out.npy"),
        (["in.jsonl", "-o", "in.jsonl"], "is also the input"),
        (["in.jsonl", "-o", "out.npy", "--text-column", "body"], "'id', 'text'"),
        (["in.jsonl", "-o", "out.npy", "--dimensions", "0"], "error [invalid_option]: dimensions"),
        (["in.jsonl", "-o", "out.npy", "--truncate", "MIDDLE"], "MIDDLE"),
        (["in.jsonl", "-o", "out.npy", "--batch-texts", "5000"], "5000"),
        (["in.jsonl", "-o", "out.npy", "--embedded", "--redis-url", "redis://x"], "--redis-url"),
        (["in.jsonl", "-o", "out.npy", "--run", "a b"], "'a b' is not a valid name"),
        (["in.jsonl", "-o", "out.npy", "--run", ""], "'' is not a valid name"),
        (["in.jsonl", "-o", "out.npy", "--embedded", "--run", "mine"], "--run"),
        (["in.jsonl", "-o", "/dev/null", "--output-format", "jsonl"], "not a regular file"),
        (["in.jsonl"], "--output"),
        (["empty.jsonl", "-o", "out.npy"], "no rows"),
    ],
)
def test_wrong_usage_is_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], says: str
) -> None:
    """Wrong options and files: status 2, one line that says what to do, no traceback, nothing written."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "in.jsonl", "a")
    put(tmp_path / "empty.jsonl")
    result = embed(*arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.jsonl", "in.jsonl"]


def test_service_trouble_is_3(tmp_path: Path) -> None:
    """A failed job or no queue: status 3, one line, nothing written."""
    source = put(tmp_path / "in.jsonl", "a", "die")
    for more in ([], ["--redis-url", SECRET_URL]):
        result = embed(source, "-o", tmp_path / "out.npy", *more)
        assert result.exit_code == 3
        assert re.fullmatch(r"run .*\nerror \[(job_failed|queue_unavailable)\]: .*\n", result.stderr)
        assert "hunter2" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_options_reach_the_client(tmp_path: Path) -> None:
    """Formats, columns and options of the command line are those of the run."""
    (tmp_path / "in").write_text("key,body\nk1,abc\n")
    result = embed(
        tmp_path / "in", "-o", tmp_path / "out", "--format", "csv", "--output-format", "parquet",
        "--text-column", "body", "--id-column", "key", "--embedding-type", "float16",
        "--input-type", "query", "--truncate", "END",
    )  # fmt: skip
    assert result.exit_code == 0
    table = parquet.read_table(tmp_path / "out")
    assert (table["id"].to_pylist(), str(table.schema.field("vector").type.value_type)) == (
        ["k1"],
        "halffloat",
    )
    told = json.loads(parquet.read_metadata(tmp_path / "out").metadata[b"embedmill"])
    assert (told["options"]["input_type"], told["options"]["truncate"]) == ("query", "END")


def test_a_prompt_is_asked_for_by_name_or_by_input_type(tmp_path: Path) -> None:
    """Both at once are wrong usage, before anything is read."""
    source = put(tmp_path / "in.jsonl", "a")
    result = embed(source, "-o", tmp_path / "out.jsonl", "--prompt-name", "s2p_query")
    assert result.exit_code == 0
    told = json.loads((tmp_path / "out.jsonl.meta.json").read_text())
    assert (told["options"]["prompt_name"], told["options"]["input_type"]) == ("s2p_query", None)
    result = embed(source, "-o", tmp_path / "x.jsonl", "--prompt-name", "s2p_query", "--input-type", "query")
    assert (result.exit_code, "give one of them" in result.stderr) == (2, True)


def start(*arguments: object, **more: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "producer.cli.main", "embed", *map(str, arguments), "--model", "m"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        **more,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("source", ["in.jsonl", "-"])
def test_an_interrupt_ends_cleanly(
    tmp_path: Path, program: str, number: signal.Signals, status: int, source: str
) -> None:
    """Ctrl-C and SIGTERM, while replies or input are awaited: their own status and no file."""
    put(tmp_path / "in.jsonl", "a")
    with EmbeddedServer(program=program) as server:
        run = start(source, "-o", "out.npy", "--redis-url", server.url, stdin=subprocess.PIPE, cwd=tmp_path)
        with run:
            assert run.stderr is not None
            while not (tmp_path / "out.npy.part").exists():
                assert run.poll() is None, run.stderr.read()
                time.sleep(0.02)
            time.sleep(0.5)  # long enough to wait for a reply that nobody gives
            run.send_signal(number)
            run.wait(20)
            stderr = run.stderr.read()
    assert run.returncode == status, stderr
    assert "Traceback" not in stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_an_embedded_worker_that_dies_is_3(tmp_path: Path) -> None:
    """With --embedded, the end of the worker ends the run with its last words, and all children are gone."""
    put(tmp_path / "in.jsonl", "a")
    (tmp_path / "worker").mkdir()
    (tmp_path / "worker" / "__init__.py").touch()
    (tmp_path / "worker" / "__main__.py").write_text(
        "import os, sys, time\n"
        "print('worker_ready', flush=True); time.sleep(1)\n"
        "print('directory', os.environ['EMBEDMILL_REDIS_URL'], os.environ['EMBEDMILL_PREFIX'])\n"
        "sys.exit('the device is lost')\n"
    )
    with start("in.jsonl", "-o", "out.npy", "--embedded", "--prefix", "mine", cwd=tmp_path) as run:
        assert run.stderr is not None
        stderr = run.stderr.read()
    assert run.returncode == 3
    assert stderr.startswith("error [worker_error]: the embedded worker has ended with status 1:")
    assert "the device is lost" in stderr
    found = re.search(r"unix://(.*)/redis.sock (\w+)", stderr)
    assert found is not None
    directory = Path(found[1])
    assert found[2] == "mine"
    assert not directory.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "worker"]


def progress(**more: object) -> Summary:
    standard: dict[str, Any] = {
        "num_texts": 1000, "num_tokens": 9000, "num_truncated": 4, "failed": {}, "seconds": 2.0,
        "sources": (SOURCE,), "prompt_name": None, "estimated_texts": None, "earlier": Totals(),
    }  # fmt: skip
    return Summary(**{**standard, **more})


def test_plain_progress_has_rates_and_time_left() -> None:
    """Away from a terminal a line tells texts, rates, failures and, if the size is known, the time left."""
    stream = io.StringIO()
    with ProgressDisplay(Console(file=stream, width=200), quiet=False, plain_every_s=0) as display:
        display.update(progress())
        display.update(progress(estimated_texts=3000, failed={"too_long": 2}))
    assert stream.getvalue().splitlines() == [
        "1,000 texts, 500 texts/s, 4,500 tokens/s, 4 cut",
        "1,000 texts of about 3,000, 4 s left, 500 texts/s, 4,500 tokens/s, 2 failed, 4 cut",
    ]


def test_a_terminal_gets_a_bar() -> None:
    """On a terminal the bar has texts and rates."""
    stream = io.StringIO()
    console = Console(file=stream, width=160, force_terminal=True, color_system=None)
    with ProgressDisplay(console, quiet=False) as display:
        display.update(progress(estimated_texts=2000))
    assert "1,000 texts" in stream.getvalue()
    assert "500 texts/s, 4,500 tokens/s" in stream.getvalue()


def test_a_summary_names_every_source(tmp_path: Path) -> None:
    """Several profiles that took part are all listed."""
    (tmp_path / "out").write_text("x")
    other = Provenance(model="m", revision="r1", profile_id="p2", profile_name="trt", precision="fp16")
    lines = summary_lines(progress(sources=(SOURCE, other)), output=tmp_path / "out", errors=tmp_path / "e")
    assert sum("profile    " in line for line in "\n".join(lines).splitlines()) == 2


def test_a_summary_shows_nothing_that_a_terminal_acts_on(tmp_path: Path) -> None:
    """Whatever a worker's replies name as their source, prompt and codes."""
    (tmp_path / "out").write_text("x")
    hostile = "\x1b]0;title\x07\n\u202e"
    source = Provenance(
        model=hostile, revision=hostile, profile_id=hostile, profile_name=hostile, precision=hostile
    )
    told = progress(sources=(source,), prompt_name=hostile, failed={hostile: 1})
    lines = summary_lines(told, output=tmp_path / "out", errors=tmp_path / "e")
    assert all(line.isprintable() for line in lines), lines


def test_the_summary_names_the_prompt_that_was_applied(tmp_path: Path) -> None:
    """Where there was one."""
    (tmp_path / "out").write_text("x")
    for name in ("s2p_query", None):
        lines = summary_lines(progress(prompt_name=name), output=tmp_path / "out", errors=tmp_path / "e")
        assert [line for line in lines if line.startswith("prompt")] == (
            ["prompt     " + name] if name else []
        )


def test_a_queue_without_a_worker_is_told(server: EmbeddedServer, tmp_path: Path) -> None:
    """The texts wait, and the person knows why."""
    (tmp_path / "in.txt").write_text("a text\n")
    command = [sys.executable, "-m", "producer", "embed", "in.txt", "-o", "out.npy", "--model", "no/such"]
    env = {**os.environ, "EMBEDMILL_REDIS_URL": server.url}
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE) as waiting:
        assert waiting.stderr is not None
        lines = iter(waiting.stderr.readline, b"")
        assert any(b"no worker serves 'no/such' yet" in line for line in lines)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(20) == 130
