"""Heads of sentence-transformers, every pooling and module in any order, against the library in fp32."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.model_directory import write
from support.random_networks import FAMILIES, random_network, worst_cosine
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from producer.contract import Truncate
from worker.backends import LoadOptions, load_backend
from worker.models.dense import ACTIVATIONS
from worker.models.model import read_model
from worker.startup.make_golden import reference_vectors
from worker.tokenization.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{number}" for number in range(296))]
HIDDEN = 64
POOLINGS = ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
DENSE, NORM, DROPOUT, UNIT = "Dense", "LayerNorm", "Dropout", "Normalize"


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT with random weights and a tokenizer of words."""
    path = tmp_path_factory.mktemp("plain")
    random_network(*FAMILIES["bert"], path)
    tokenizer = Library(models.WordLevel({word: row for row, word in enumerate(WORDS)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    write(path, "tokenizer_config.json", names | {"tokenizer_class": "PreTrainedTokenizerFast"})
    write(path, "sentence_bert_config.json", {"max_seq_length": 128})
    return path


def with_head(plain: Path, path: Path, poolings: list[str], kinds: list[str], **dense: Any) -> Path:
    """The model with a Pooling and modules of these kinds after it; Dense halves the vector and adds one."""
    for file in plain.iterdir():
        (path / file.name).symlink_to(file)
    rows = [("", "Transformer"), ("1_Pooling", "Pooling")]
    write(path, "1_Pooling/config.json", {"embedding_dimension": HIDDEN, "pooling_mode": poolings})
    size, random = HIDDEN * len(poolings), np.random.default_rng(5)

    def uniform(*shape: int) -> Any:
        return random.uniform(-1, 1, shape).astype(np.float32)

    for kind in kinds:
        folder = f"{len(rows)}_{kind}"
        rows.append((folder, kind))
        (path / folder).mkdir()
        match kind:
            case "Dense":
                config = {"in_features": size, "out_features": size // 2 + 1, "bias": True} | dense
                write(path, f"{folder}/config.json", config)
                tensors = {
                    "linear.weight": uniform(size // 2 + 1, size) / 4,
                    "linear.bias": uniform(size // 2 + 1),
                }
                save_file(tensors, path / folder / "model.safetensors")
                size = size // 2 + 1
            case "LayerNorm":
                write(path, f"{folder}/config.json", {"dimension": size})
                tensors = {"norm.weight": 1 + uniform(size), "norm.bias": uniform(size)}
                save_file(tensors, path / folder / "model.safetensors")
            case "Dropout":
                write(path, f"{folder}/config.json", {"dropout": 0.5})
            case "Pooling":
                write(path, f"{folder}/config.json", {"embedding_dimension": HIDDEN, "pooling_mode": "max"})
                size = HIDDEN
    write_modules(path, rows)
    return path


def write_modules(path: Path, rows: list[tuple[str, str]]) -> None:
    modules = [
        {"idx": index, "name": str(index), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for index, (folder, kind) in enumerate(rows)
    ]
    write(path, "modules.json", modules)


def texts() -> list[str]:
    """From no word to more than fit."""
    random = np.random.default_rng(7)
    return [" ".join(random.choice(WORDS[4:], length)) for length in (0, 1, 2, 17, 90, 126, 150)]


def check_against_the_library(path: Path) -> None:
    """Each backend that can run the model gives the vectors of sentence-transformers, lengths included."""
    expected, model = reference_vectors(path, texts()), read_model(path)
    tokenizer = Tokenizer(model.transformer, max_tokens=model.max_text_tokens)
    tokens = tokenizer.encode(texts(), Truncate.END).tokens
    assert model.dim == expected.shape[1]
    for name in ("onnx", "torch", "transformers"):
        backend = load_backend(name, model, LoadOptions(device="cpu", precision="fp32", num_threads=1))
        found = backend.collect(backend.launch(tokens))
        backend.close()
        assert worst_cosine(found, expected) >= 0.999999, name
        np.testing.assert_allclose(found, expected, atol=2e-4, err_msg=name)


@pytest.mark.parametrize("kinds", [[], [DENSE, NORM, UNIT]], ids=["alone", "with modules"])
@pytest.mark.parametrize("poolings", [*([name] for name in POOLINGS), POOLINGS], ids="+".join)
def test_every_pooling(plain: Path, tmp_path: Path, poolings: list[str], kinds: list[str]) -> None:
    """Alone and all of them joined, with and without what follows."""
    check_against_the_library(with_head(plain, tmp_path, poolings, kinds))


@pytest.mark.parametrize(
    "kinds",
    [
        [NORM],
        [UNIT, DENSE],
        [UNIT, NORM, DROPOUT],
        [DROPOUT, DENSE, DENSE, NORM, DENSE, UNIT],
        [UNIT, UNIT],
        [DENSE, "Pooling", UNIT],
        ["Pooling", NORM],
    ],
    ids=", ".join,
)
def test_modules_in_any_order(plain: Path, tmp_path: Path, kinds: list[str]) -> None:
    """Each reads what the one before it gave; a second Pooling starts anew, as in the library."""
    check_against_the_library(with_head(plain, tmp_path, ["mean"], kinds))


@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_every_activation(plain: Path, tmp_path: Path, activation: str) -> None:
    """Under the name that the library saves."""
    from torch import nn

    made = getattr(nn, ACTIVATIONS[activation])
    name = f"{made.__module__}.{made.__name__}"
    check_against_the_library(
        with_head(plain, tmp_path, ["mean", "max"], [DENSE, DENSE], activation_function=name)
    )
