"""The cache: filled ahead of time, listed, checked, and cleared of what nobody uses."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.hub import hub
from support.model_directory import write
from support.tiny_model import write_tiny_model

from worker.cli.main import main
from worker.storage.model_lock import ModelLock

MODEL = "org/tiny"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole model of some kilobytes, but for its tokenizer."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def filled(cache: Path, template: Path) -> Path:
    """A cache of the test's own that holds the model, a verification record, a measurement and a plan."""
    shutil.copytree(template, cache, symlinks=True)
    return cache


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """What `filled` copies."""
    cache = tmp_path_factory.mktemp("template")
    with hub(tiny, name=MODEL) as url:
        done = worker("download-to-cache", "--model", MODEL, cache=cache, HF_ENDPOINT=url)
    assert done.returncode == 0, done.stderr
    done = worker("check", "--model", MODEL, cache=cache, EMBEDMILL_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    write(cache, "measurements/measured-0.json", {"format": 1, "key": {"model": MODEL, "profile_id": "p"}})
    content = b"plan" * 1000
    head = {"format": "embedmill-plan", "key": "abc", "sha256": hashlib.sha256(content).hexdigest()}
    write(cache, "plans/0/abc.json", {"profile_id": "p"})
    (cache / "plans/0/abc.plan").write_bytes(json.dumps(head).encode() + b"\n" + content)
    return cache


def worker(
    *arguments: str, cache: Path, limit_kib: int | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The command as a process with that cache; none of its files may grow beyond the limit."""
    given = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "EMBEDMILL_"))}
    given |= {"EMBEDMILL_CACHE_PATH": str(cache), "EMBEDMILL_LOG_LEVEL": "ERROR", **environment}
    limit = f"ulimit -f {limit_kib}; " if limit_kib is not None else ""
    command = ["bash", "-c", f'{limit}exec "$@"', "bash", sys.executable, "-m", "worker", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, check=False, timeout=50)


def ask(*arguments: str, cache: Path) -> Result:
    return CliRunner().invoke(main, ["cache", *arguments], env={"EMBEDMILL_CACHE_PATH": str(cache)})


def listed(cache: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(ask("list", "--format", "json", cache=cache).output)
    return found


def test_a_downloaded_model_needs_no_network(cache: Path, tiny: Path) -> None:
    """Neither where we are told to be offline, nor where the hub does not answer."""
    with hub(tiny, name=MODEL) as url:
        done = worker("download-to-cache", "--model", MODEL, cache=cache, HF_ENDPOINT=url)
    assert (done.returncode, f"{MODEL}: " in done.stdout, "complete, in" in done.stdout) == (0, True, True)
    nowhere = "http://127.0.0.1:9"
    environments: list[dict[str, Any]] = [{"EMBEDMILL_OFFLINE": "1"}, {"HF_ENDPOINT": nowhere}]
    for environment in environments:
        done = worker("check", "--model", MODEL, cache=cache, **environment)
        assert (done.returncode, ", 8 dimensions" in done.stdout) == (0, True), done.stderr


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of error; the process must have ended with 1 and no traceback."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("error [")]
    assert (done.returncode, len(lines), "Traceback" in done.stderr) == (1, 1, False), done.stderr
    return lines[0]


@pytest.mark.slow
def test_a_download_that_breaks_off_goes_on_later(cache: Path, tiny: Path) -> None:
    """It says so; what came is not taken for the model, and the next download completes it."""
    with hub(tiny, name=MODEL, breaks_after=100_000) as url:
        done = worker("download-to-cache", "--model", MODEL, cache=cache, HF_ENDPOINT=url)
    assert "the download was interrupted" in sentence(done)
    done = worker("check", "--model", MODEL, cache=cache, EMBEDMILL_OFFLINE="1")
    assert "downloads are turned off" in sentence(done)
    with hub(tiny, name=MODEL) as url:
        assert worker("download-to-cache", "--model", MODEL, cache=cache, HF_ENDPOINT=url).returncode == 0


def test_a_full_disk_is_told(cache: Path, tiny: Path) -> None:
    """With the folder, and what to do."""
    with hub(tiny, name=MODEL) as url:
        done = worker("download-to-cache", "--model", MODEL, cache=cache, limit_kib=100, HF_ENDPOINT=url)
    assert f"the disk of {cache}/hub is full" in sentence(done)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, tiny: Path) -> None:
    """For root, who may write anywhere, a folder below a file serves."""
    (tmp_path / "file").touch()
    with hub(tiny, name=MODEL) as url:
        done = worker("download-to-cache", "--model", MODEL, cache=tmp_path / "file/cache", HF_ENDPOINT=url)
    assert "cannot be written (Not a directory); set EMBEDMILL_CACHE_PATH" in sentence(done)


def test_other_weights_than_the_manifest_names_are_told(cache: Path, tiny: Path) -> None:
    """They are fetched once more, in case they were damaged on the way, and then refused."""
    with hub(tiny, name="sentence-transformers/all-MiniLM-L6-v2") as url:
        done = worker("download-to-cache", "--model", "minilm", cache=cache, HF_ENDPOINT=url)
    assert "expected 53aa" in sentence(done)


def test_damage_in_the_cache_is_found_and_healed_by_a_download(filled: Path, tiny: Path) -> None:
    """`verify` names the file; a download sees that the model cannot be read and fetches it again."""
    blob = next((filled / "hub").rglob("model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[:1000])
    found = ask("verify", cache=filled)
    assert (found.exit_code, f"damaged: {blob} is damaged" in found.output) == (1, True), found.output
    with hub(tiny, name=MODEL) as url:
        assert worker("download-to-cache", "--model", MODEL, cache=filled, HF_ENDPOINT=url).returncode == 0
    assert ask("verify", cache=filled).exit_code == 0


def test_an_unknown_profile_is_told_as_nim_does(cache: Path) -> None:
    """With the status of a profile that does not exist."""
    done = worker("download-to-cache", "-p", "deadbeef", cache=cache)
    assert (done.returncode, "Unknown profiles provided: 'deadbeef'" in done.stderr) == (3, True)


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("matmul/NVIDIA_H100-130100.json", {"128x64x32 torch.float16 gelu": ""}, "matmul algorithms"),
        ("tokenizers/0123.json", {"version": "1.0"}, "tokenizer"),
        ("token_ids/0123.json", {"transformers": "5.0.0"}, "token ids"),
    ],
)
def test_what_belongs_to_no_model_is_listed_checked_and_removed(
    name: str, content: dict[str, str], kind: str, cache: Path
) -> None:
    """Removing it costs a search, a conversion or a comparison at the next boot."""
    write(cache, name, content)
    assert [row["kind"] for row in listed(cache)] == [kind]
    assert ask("verify", cache=cache).exit_code == 0
    assert ask("prune", "--older-than", "0s", cache=cache).exit_code == 0
    assert listed(cache) == []


def test_the_listing_says_what_is_whose(filled: Path) -> None:
    """Kind, model, bytes and age of everything, as text and as JSON."""
    rows = listed(filled)
    kinds = [(row["kind"], row["model"]) for row in rows]
    assert kinds == [("model", MODEL), ("verification record", MODEL), ("measurement", MODEL), ("plan", "")]
    assert all(row["bytes"] > 0 and row["age_s"] < 600 for row in rows)
    assert rows[1]["profile"] == "cpu-fp32-onnx"
    text = ask("list", cache=filled).output
    assert (text.count("\n"), "4 entries, " in text) == (5, True)


def test_an_empty_cache_is_fine(cache: Path) -> None:
    """Nothing to list, to check or to remove."""
    for command in (["list"], ["verify"], ["prune", "--older-than", "0s"]):
        assert ask(*command, cache=cache).exit_code == 0


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("verified/x.json", b"{"),
        ("golden/x.json", b"{}"),
        ("plans/0/abc.json", b"?"),
        ("plans/0/abc.plan", b'{"key": "abc", "sha256": "0"}\nplan'),
        ("plans/0/abd.json", b"{}"),
        ("hub/models--org--tiny/blobs/x.incomplete", b"half"),
    ],
)
def test_what_is_damaged_has_a_line_and_a_status(filled: Path, name: str, content: bytes) -> None:
    """Exit 0 before, 1 after."""
    assert ask("verify", cache=filled).exit_code == 0
    (filled / name).parent.mkdir(parents=True, exist_ok=True)
    (filled / name).write_bytes(content)
    found = ask("verify", cache=filled)
    stem = str(filled / name).rpartition(".")[0]
    assert (found.exit_code, found.output.count(f"damaged: {stem}")) == (1, 1), found.output


def test_what_is_old_goes(filled: Path) -> None:
    """Only that; a dry run only tells."""
    plan = [filled / "plans/0/abc.plan", filled / "plans/0/abc.json"]
    for path in plan:
        os.utime(path, (0, 0))
    told = ask("prune", "--older-than", "30d", "--dry-run", cache=filled)
    assert "would remove 1 entry" in told.output
    assert all(path.exists() for path in plan)
    assert "removed 1 entry" in ask("prune", "--older-than", "30d", cache=filled).output
    assert not any(path.exists() for path in plan)
    assert len(listed(filled)) == 3


def test_a_kept_model_keeps_all_of_its_own(filled: Path) -> None:
    """By its name or the part after the slash."""
    ask("prune", "--keep-model", "tiny", cache=filled)
    assert {row["model"] for row in listed(filled)} == {MODEL}
    ask("prune", "--older-than", "0s", cache=filled)
    assert listed(filled) == []


def test_what_a_live_worker_uses_stays(filled: Path) -> None:
    """And what might be its own; all of it goes when the worker has ended."""
    model_lock = ModelLock(filled, MODEL)
    told = ask("prune", "--older-than", "0s", cache=filled)
    assert "kept 4 entries of models that running workers use" in told.output
    assert len(listed(filled)) == 4
    model_lock.close()
    ask("prune", "--older-than", "0s", cache=filled)
    assert listed(filled) == []


def test_nothing_goes_unasked(filled: Path) -> None:
    """A bare `prune` is a question, not an order."""
    assert ask("prune", cache=filled).exit_code == 2
    assert ask("prune", "--older-than", "soon", cache=filled).exit_code == 2
    assert len(listed(filled)) == 4
