"""Reading a model's directory."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.model_directory import write

from producer.errors import ModelError
from worker.models.dense import Dense, dense_weights
from worker.models.head import PLAIN_HEAD, Normalize, read_pooling
from worker.models.model import read_model

CONFIG = {
    "model_type": "bert",
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 64,
}
SHORT = "sentence_transformers.models."


def add_modules(directory: Path, *kinds: str) -> None:
    """modules.json with the given types, each in a folder of its own but the first."""
    paths = ["", *(f"{index}_{kind}" for index, kind in enumerate(kinds[1:], start=1))]
    rows = [
        {"idx": index, "name": str(index), "path": path, "type": kind if "." in kind else SHORT + kind}
        for index, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    write(directory, "modules.json", rows)


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A directory that only transformers knows."""
    write(tmp_path, "config.json", CONFIG)
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


@pytest.fixture
def whole(plain: Path) -> Path:
    """A sentence-transformers directory with all of its files."""
    add_modules(plain, "Transformer", "Pooling", "Dense", "Normalize")
    write(plain, "1_Pooling/config.json", {"word_embedding_dimension": 8, "pooling_mode_cls_token": True})
    write(plain, "2_Dense/config.json", {"in_features": 8, "out_features": 5, "bias": True})
    linear = {"linear.weight": np.ones((5, 8), np.float32), "linear.bias": np.zeros(5, np.float32)}
    save_file(linear, plain / "2_Dense/model.safetensors")
    write(plain, "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": True})
    prompts = {"query": "query: ", "passage": "passage: ", "document": None}
    write(
        plain,
        "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": "query", "similarity_fn_name": "dot"},
    )
    return plain


def test_a_whole_directory_is_read(whole: Path) -> None:
    """Head, limits, prompts and identity come from the model's own files."""
    model = read_model(whole)
    assert (model.head.poolings, model.head.normalize, model.dim) == (("cls",), True, 5)
    assert [type(module) for module in model.head.modules] == [Dense, Normalize]
    assert (model.max_text_tokens, model.do_lower_case) == (40, True)
    assert model.prompts == {"query": "query: ", "passage": "passage: ", "document": ""}
    assert (model.default_prompt, model.similarity, model.matryoshka_dims) == ("query", "dot", ())
    digest = hashlib.sha256((whole / "model.safetensors").read_bytes()).hexdigest()
    assert model.revision == digest[:12]
    assert read_model(whole, sha256=digest, revision="v2").revision == "v2"


def test_a_plain_directory_pools_the_mean_and_does_not_normalise(plain: Path) -> None:
    """Without modules.json the head is the one sentence-transformers would add."""
    model = read_model(plain)
    assert (model.head, model.dim, model.similarity) == (PLAIN_HEAD, 8, "cosine")
    assert not model.head.normalize
    assert model.max_text_tokens == 64


@pytest.mark.parametrize(("stated", "pooling"), [("avg", "mean"), ("last", "lasttoken"), ("cls", "cls")])
def test_a_bidirectional_llama_states_its_pooling(whole: Path, stated: str, pooling: str) -> None:
    """In config.json, which counts where there is no modules.json."""
    llama = {"model_type": "llama_bidirec", "hidden_act": "silu", "rms_norm_eps": 1e-5, "pooling": stated}
    write(whole, "config.json", CONFIG | llama)
    assert read_model(whole).head.poolings == ("cls",)
    (whole / "modules.json").unlink()
    assert read_model(whole).head.poolings == (pooling,)
    write(whole, "config.json", CONFIG | llama | {"pooling": "weighted_avg"})
    with pytest.raises(ModelError, match="pooling 'weighted_avg'; supported are avg, cls, last"):
        read_model(whole)


def test_the_transformer_may_lie_in_a_folder_of_its_own(whole: Path) -> None:
    """modules.json says where config and weights are."""
    folder = whole / "0_Transformer"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "sentence_bert_config.json"):
        (whole / name).rename(folder / name)
    rows = json.loads((whole / "modules.json").read_text())
    rows[0]["path"] = "0_Transformer"
    write(whole, "modules.json", rows)
    model = read_model(whole)
    assert (model.transformer, model.directory, model.max_text_tokens) == (folder, whole, 40)


@pytest.mark.parametrize(
    ("own", "tokenizer", "expected"),
    [(None, 50, 50), (None, 1e30, 64), (None, None, 64), (40, 20, 40), (9999, 50, 64)],
)
def test_the_longest_text(whole: Path, own: Any, tokenizer: Any, expected: int) -> None:
    """The model's own setting wins over the tokenizer's, and the position table bounds both."""
    write(whole, "sentence_bert_config.json", {"max_seq_length": own})
    write(whole, "tokenizer_config.json", {} if tokenizer is None else {"model_max_length": tokenizer})
    assert read_model(whole).max_text_tokens == expected


@pytest.mark.parametrize(
    ("own", "tokenizer", "expected"), [(9999, 50, 9999), (None, 9999, 64), (None, 1e30, 64), (40, 9999, 40)]
)
def test_rotary_positions_reach_as_far_as_the_model_says(
    whole: Path, own: Any, tokenizer: Any, expected: int
) -> None:
    """No table ends: only without a setting does max_position_embeddings count."""
    rotary = {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5}
    write(whole, "config.json", CONFIG | rotary)
    write(whole, "sentence_bert_config.json", {"max_seq_length": own})
    write(whole, "tokenizer_config.json", {"model_max_length": tokenizer})
    assert read_model(whole).max_text_tokens == expected


@pytest.mark.parametrize(
    ("config", "poolings"),
    [
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"pooling_mode": ["cls", "max"]}, ("cls", "max")),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("max", "mean")),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({}, ("mean",)),
    ],
)
def test_poolings_in_both_spellings(config: dict[str, Any], poolings: tuple[str, ...]) -> None:
    """Several poolings keep the order in which sentence-transformers joins them."""
    assert read_pooling(config) == (poolings, True)


def test_matryoshka_sizes_are_read_if_stated(plain: Path) -> None:
    """matryoshka_dimensions of config.json, ascending."""
    write(plain, "config.json", CONFIG | {"matryoshka_dimensions": [8, 4]})
    assert read_model(plain).matryoshka_dims == (4, 8)


def test_dense_weights_are_checked(whole: Path) -> None:
    """A dense layer's tensors come with the shapes that its config states, or are refused by name."""
    dense = read_model(whole).head.modules[0]
    assert isinstance(dense, Dense)
    weight, bias = dense_weights(dense)
    assert weight.shape == (5, 8)
    assert bias is not None
    assert bias.shape == (5,)
    save_file({"linear.weight": np.ones((8, 5), np.float32)}, dense.directory / "model.safetensors")
    with pytest.raises(ModelError, match=r"has the tensors \['linear\.weight'\]"):
        dense_weights(dense)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("Transformer", "Pooling", "LSTM"), "lists Transformer, Pooling, LSTM"),
        (("Transformer", "Normalize", "Pooling"), "Dropout in any order"),
        (("Transformer",), "lists Transformer without a Pooling"),
        (("Transformer", "Dense"), "a vector per token"),
        (("LSTM", "Pooling"), "lists LSTM, Pooling; supported are"),
        (("custom_st.Transformer", "Pooling"), "custom_st.*never run"),
        (
            ("Transformer", "sentence_transformers.sparse_encoder.models.SpladePooling"),
            "SpladePooling.*sparse",
        ),
    ],
)
def test_unknown_modules_are_refused_by_name(whole: Path, kinds: tuple[str, ...], said: str) -> None:
    """Only Transformer, Pooling, Dense, Normalize in this order are computed; no foreign code is run."""
    add_modules(whole, *kinds)
    with pytest.raises(ModelError, match=said):
        read_model(whole)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("modules.json", {"a": 1}, "not a list of modules"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "'median'"),
        ("1_Pooling/config.json", {"pooling_mode": 3}, "pooling is 3"),
        ("2_Dense/config.json", {"in_features": 8, "out_features": 5, "activation_function": "os.x"}, "os.x"),
        ("2_Dense/config.json", {"in_features": 7, "out_features": 5}, "takes 7 values but receives 8"),
        ("2_Dense/config.json", {"in_features": 8}, "positive integers are expected"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "module_input_name"),
        ("2_Dense/config.json", {"use_residual": True}, "use_residual"),
        ("config.json", CONFIG | {"auto_map": {"AutoModel": "modeling.Model"}}, "needs remote code"),
        ("config.json", [], "contains a list"),
        ("config.json", CONFIG | {"matryoshka_dimensions": "all"}, "matryoshka_dimensions"),
        ("sentence_bert_config.json", {"max_seq_length": "long"}, "'long'"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "prompts"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "search"},
            "default_prompt_name 'search'",
        ),
    ],
)
def test_a_file_that_says_something_else_is_refused(whole: Path, name: str, content: Any, said: str) -> None:
    """Each file's own mistakes end in one sentence that names them."""
    write(whole, name, content)
    with pytest.raises(ModelError, match=said):
        read_model(whole)


@pytest.mark.parametrize(
    "name", ["config.json", "model.safetensors", "1_Pooling/config.json", "2_Dense/model.safetensors"]
)
def test_a_missing_file_is_named(whole: Path, name: str) -> None:
    """A directory without one of its files is not whole, and the error says which."""
    (whole / name).unlink()
    with pytest.raises(ModelError, match=Path(name).name):
        read_model(whole)


def test_broken_json_is_named(whole: Path) -> None:
    """A half-written config is refused by its path."""
    (whole / "config.json").write_text('{"model_type": "be')
    with pytest.raises(ModelError, match=r"config\.json is not valid JSON"):
        read_model(whole)


def test_a_wrong_hash_is_refused(whole: Path) -> None:
    """Weights of another SHA-256 than expected are not used, and both are told."""
    with pytest.raises(ModelError, match="expected 00ff"):
        read_model(whole, sha256="00ff")


def test_a_module_outside_the_directory_is_refused(whole: Path) -> None:
    """modules.json cannot point elsewhere on the machine."""
    rows = json.loads((whole / "modules.json").read_text())
    rows[1]["path"] = "../elsewhere"
    write(whole, "modules.json", rows)
    with pytest.raises(ModelError, match="outside the model's directory"):
        read_model(whole)


def test_no_directory_is_no_model(tmp_path: Path) -> None:
    """A path that does not exist is said so."""
    with pytest.raises(ModelError, match="is not a directory"):
        read_model(tmp_path / "absent")
