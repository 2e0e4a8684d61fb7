"""A directory that is not a whole model ends in one clear sentence, whichever command meets it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from support.tiny_model import CONFIG, write_tiny_model

from producer.embedded.services import EmbeddedServer
from worker.cli.main import main


def _truncate(at: Path) -> None:
    weights = at / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:50_000])


def _nan_in_one_row(at: Path) -> None:
    """In the row of a token that no golden text has."""
    whole = (at / "model.safetensors").read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])
    end = header["embeddings.word_embeddings.weight"]["data_offsets"][1]
    place = 8 + int.from_bytes(whole[:8], "little") + end - 4
    nan = np.array([np.nan], "<f4").tobytes()
    (at / "model.safetensors").write_bytes(whole[:place] + nan + whole[place + 4 :])


def _empty(at: Path) -> None:
    for path in at.iterdir():
        path.unlink()


# What is done to a whole model, the sentence, and the status: 1 for files, 4 once all profiles have failed.
DAMAGES: dict[str, tuple[Callable[[Path], object], str, int]] = {
    "truncated weights": (
        _truncate,
        "model.safetensors is not a complete safetensors file; download it again",
        4,
    ),
    "NaN weights": (
        _nan_in_one_row,
        "embeddings.word_embeddings.weight of model.safetensors contains NaN",
        4,
    ),
    "weights of another network": (
        lambda at: (at / "config.json").write_text(json.dumps({**CONFIG, "hidden_size": 16})),
        "has shape (30522, 8), but config.json requires (30522, 16)",
        4,
    ),
    "no weights": (
        lambda at: (at / "model.safetensors").unlink(),
        "model.safetensors is missing from",
        1,
    ),
    "pickled weights": (
        lambda at: (at / "model.safetensors").rename(at / "pytorch_model.bin"),
        "has pytorch_model.bin but no model.safetensors; pickled weights can run code",
        1,
    ),
    "no tokenizer": (lambda at: (at / "tokenizer.json").unlink(), "has no tokenizer.json", 1),
    "config is no JSON": (lambda at: (at / "config.json").write_text("{,"), "is not valid JSON", 1),
    "config is a list": (lambda at: (at / "config.json").write_text("[]"), "not an object", 1),
    "modules are no JSON": (lambda at: (at / "modules.json").write_text("{"), "is not a list of modules", 1),
    "unknown network": (
        lambda at: (at / "config.json").write_text('{"model_type": "t5"}'),
        "config.json of model_type 't5' has no vocab_size or n_words, which every network states that",
        1,
    ),
    "remote code": (
        lambda at: (at / "config.json").write_text(
            json.dumps(CONFIG | {"auto_map": {"AutoModel": "modeling.Model"}})
        ),
        "the model needs remote code",
        1,
    ),
    "two networks": (
        lambda at: (at / "config.json").write_text(
            json.dumps({"model_type": "encoder-decoder", "encoder": CONFIG, "decoder": CONFIG})
        ),
        "two networks in one, an encoder and a decoder; save the encoder alone",
        1,
    ),
    "characters for tokens": (
        lambda at: (at / "config.json").write_text('{"model_type": "canine", "num_hash_buckets": 16384}'),
        "reads hashed characters, as CANINE does, instead of the tokens of a vocabulary",
        1,
    ),
    "a tokenizer in Python": (
        lambda at: (at / "config.json").write_text(
            json.dumps({"model_type": "xlm", "n_words": 30_522, "emb_dim": 8, "max_position_embeddings": 64})
        ),
        "the tokenizer is a XLMTokenizer, which transformers implements in Python",
        1,
    ),
    "empty directory": (_empty, "has no config.json or modules.json, so it is no model's directory", 1),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_check_says_it_in_one_sentence(tmp_path: Path, how: str) -> None:
    """And ends with a status; every profile that loads weights was tried before."""
    damage, says, status = DAMAGES[how]
    damage(write_tiny_model(tmp_path))
    got = CliRunner().invoke(main, ["check", "--model", str(tmp_path)], env={"EMBEDMILL_OFFLINE": "1"})
    errors = [line for line in got.output.splitlines() if line.startswith("error [")]
    assert (got.exit_code, len(errors), "Traceback" in got.output) == (status, 1, False), got.output
    assert says in errors[0]


@pytest.mark.parametrize("how", ["truncated weights", "pickled weights"])
def test_run_ends_and_does_not_try_for_ever(tmp_path: Path, how: str, server: EmbeddedServer) -> None:
    """The parent gives up with the status of its worker, whose sentence stands in the log."""
    damage, says, status = DAMAGES[how]
    damage(write_tiny_model(tmp_path))
    command = [sys.executable, "-m", "worker", "run", "--model", str(tmp_path)]
    environment = {**os.environ, "EMBEDMILL_REDIS_URL": server.url, "EMBEDMILL_METRICS_PORT": ""}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=50, check=False)
    assert (ended.returncode, "Traceback" in ended.stderr) == (status, False), ended.stderr
    assert sum(line.startswith("error [") and says in line for line in ended.stderr.splitlines()) == 1
    last = ended.stderr.splitlines()[-1]
    assert "worker_not_restarted name=" in last
    assert says in last
