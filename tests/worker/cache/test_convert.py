"""Pickled weights become safetensors, once, in a process of their own; a worker never opens a pickle."""

import hashlib
import json
import os
import pickle
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file
from support.hub import hub
from support.model_directory import write
from support.paths import ROOT
from support.tiny_model import write_tiny_model

from producer.errors import ModelError
from worker.cache.convert import RECORD, convert
from worker.models.dense import Dense, dense_weights
from worker.models.model import read_model
from worker.models.weights import read_weights
from worker.settings import Settings, read_settings

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings(cache_path=tmp_path / "cache")


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A tiny model as it would be with pytorch_model.bin; the word table is there twice, as a tied head's."""
    directory = tmp_path / "pickled"
    directory.mkdir()
    write_tiny_model(directory)
    tensors = torch_tensors(directory / "model.safetensors")
    tensors["cls.predictions.decoder.weight"] = tensors["embeddings.word_embeddings.weight"]
    save(tensors, directory / "pytorch_model.bin")
    (directory / "model.safetensors").rename(tmp_path / "expected.safetensors")
    (directory / "remote_code.py").write_text("raise SystemExit('never run')")
    return directory


def torch_tensors(path: Path) -> dict[str, Any]:
    import torch

    return {name: torch.from_numpy(array) for name, array in load_file(path).items()}


def save(tensors: Any, path: Path, **options: Any) -> None:
    import torch

    torch.save(tensors, path, **options)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("new_format", [True, False])
def test_a_converted_model_has_the_same_weights(
    tmp_path: Path, pickled: Path, settings: Settings, new_format: bool
) -> None:
    """In PyTorch's format and the one before 1.6: OUT is read like any other directory, and has no pickle."""
    tensors = torch_tensors(tmp_path / "expected.safetensors")
    save(tensors, pickled / "pytorch_model.bin", _use_new_zipfile_serialization=new_format)
    out = tmp_path / "out"
    converted = convert(str(pickled), out, settings)
    model = read_model(out)
    found = read_weights(out, model.architecture)
    expected = load_file(tmp_path / "expected.safetensors")["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(found["embeddings.word"], expected)
    kept = {"config.json", "tokenizer.json", "model.safetensors", RECORD}
    assert {path.name for path in out.iterdir()} == kept
    assert f"EMBEDMILL_MODEL_DIR={out}" in str(converted)


def test_hashes_of_source_and_result_are_recorded(tmp_path: Path, pickled: Path, settings: Settings) -> None:
    """conversion.json says what was read and what was written; tied tensors are written apart."""
    convert(str(pickled), tmp_path / "out", settings)
    [file] = json.loads((tmp_path / "out" / RECORD).read_text())["files"]
    assert file == {
        "source": "pytorch_model.bin",
        "source_sha256": sha256(pickled / "pytorch_model.bin"),
        "result": "model.safetensors",
        "result_sha256": sha256(tmp_path / "out/model.safetensors"),
    }
    assert "cls.predictions.decoder.weight" in load_file(tmp_path / "out/model.safetensors")


def test_shards_and_dense_modules(tmp_path: Path, pickled: Path, settings: Settings) -> None:
    """A sharded checkpoint keeps its shards and index; a Dense module is converted in its own folder."""
    tensors = torch_tensors(tmp_path / "expected.safetensors")
    names = sorted(tensors)
    weight_map: dict[str, str] = {}
    for number, part in enumerate((names[:9], names[9:]), start=1):
        shard = f"pytorch_model-0000{number}-of-00002.bin"
        save({name: tensors[name] for name in part}, pickled / shard)
        weight_map |= dict.fromkeys(part, shard)
    (pickled / "pytorch_model.bin").unlink()
    write(pickled, "pytorch_model.bin.index.json", {"weight_map": weight_map})
    kinds = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense"}
    rows = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds.items())
    ]
    write(pickled, "modules.json", rows)
    write(pickled, "1_Pooling/config.json", {"pooling_mode_mean_tokens": True})
    write(pickled, "2_Dense/config.json", {"in_features": 8, "out_features": 2, "bias": False})
    linear = {"linear.weight": tensors["encoder.layer.0.output.dense.weight"][:2, :8]}
    save(linear, pickled / "2_Dense/pytorch_model.bin")
    out = tmp_path / "out"
    assert len(convert(str(pickled), out, settings).files) == 3
    model = read_model(out)
    found = read_weights(out, model.architecture)
    np.testing.assert_array_equal(
        found["embeddings.position"], tensors["embeddings.position_embeddings.weight"]
    )
    [dense] = [each for each in out.rglob("2_Dense")]
    assert (dense / "model.safetensors").is_file()
    [layer] = model.head.modules
    assert isinstance(layer, Dense)
    assert dense_weights(layer)[0].shape == (2, 8)


class Attack:
    """What a hostile checkpoint looks like."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("by", ["torch", "pickle"])
def test_code_in_a_pickle_does_not_run(tmp_path: Path, pickled: Path, settings: Settings, by: str) -> None:
    """It is refused, nothing has happened, and no half of a result is left."""
    mark = tmp_path / "it ran"
    hostile = {"embeddings.word_embeddings.weight": Attack(mark)}
    if by == "torch":
        save(hostile, pickled / "pytorch_model.bin")
    else:
        (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(hostile))
    with pytest.raises(ModelError, match=r"pytorch_model\.bin could not be converted: .*more than tensors"):
        convert(str(pickled), tmp_path / "out", settings)
    assert not mark.exists()
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"a": 1}, "more than tensors: a"),
        ({}, "no tensors by name"),
        ([1, 2], "no tensors by name"),
    ],
)
def test_what_is_no_checkpoint_is_refused(
    tmp_path: Path, pickled: Path, settings: Settings, content: Any, says: str
) -> None:
    """A pickle may hold anything; only tensors by name are weights."""
    save(content, pickled / "pytorch_model.bin")
    with pytest.raises(ModelError, match=says):
        convert(str(pickled), tmp_path / "out", settings)


def test_nothing_to_convert_and_nowhere_to_write(tmp_path: Path, pickled: Path, settings: Settings) -> None:
    """A model with safetensors needs no conversion, and a directory that exists is left alone."""
    with pytest.raises(ModelError, match="exists already"):
        convert(str(pickled), pickled, settings)
    write_tiny_model(pickled)
    with pytest.raises(ModelError, match="nothing to convert"):
        convert(str(pickled), tmp_path / "out", settings)


def worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "worker", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env=os.environ | environment, check=False
    )


def test_the_command_takes_a_model_from_the_hub(tmp_path: Path, pickled: Path) -> None:
    """A worker downloads no pickle and names the command, which does."""
    with hub(pickled, name="org/pickled") as url:
        surroundings = {"HF_ENDPOINT": url, "EMBEDMILL_CACHE_PATH": str(tmp_path / "cache")}
        refused = worker("check", "--model", "org/pickled", **surroundings)
        assert (refused.returncode, "run `worker convert MODEL OUT`" in refused.stderr) == (1, True)
        assert not list((tmp_path / "cache").rglob("*.bin"))
        done = worker("convert", "org/pickled", str(tmp_path / "out"), **surroundings)
    assert done.returncode == 0, done.stderr
    assert f"EMBEDMILL_MODEL_DIR={tmp_path / 'out'}" in done.stdout
    assert read_model(tmp_path / "out").dim == 8


def test_the_process_that_reads_pickles_has_no_network() -> None:
    """Where the system allows it, as this one must to pass: not even this host can be reached."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        program = (
            "import socket; from worker.cache.unpickle import cut_off_network; print(cut_off_network())\n"
            f"socket.create_connection(('127.0.0.1', {port}), timeout=5)"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=False)
    if ended.stdout.strip() == b"False":
        pytest.skip("this system does not let a process leave its network")
    assert ended.returncode == 1
    assert b"OSError" in ended.stderr or b"Error: [Errno" in ended.stderr
