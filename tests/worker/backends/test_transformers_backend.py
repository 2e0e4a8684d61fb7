"""Families we have no code for, through the library transformers, against sentence-transformers in fp32."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer as Library
from tokenizers import models, pre_tokenizers, processors

from producer.contract import Truncate
from producer.errors import BackendError, ModelError
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.contract import Backend
from worker.models.model import Model, read_model
from worker.settings import Settings
from worker.startup.boot import boot
from worker.startup.make_golden import reference_vectors as embed_with_peer
from worker.tokenization.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *(f"w{number}" for number in range(296))]
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 130,
    # Ten times the usual, so that attention and activations leave their linear beginnings.
    "initializer_range": 0.2,
}
RELATIVE = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 32,
    "position_biased_input": False,
}
T5_SIZES = {"vocab_size": 300, "d_model": 64, "num_layers": 3, "num_heads": 4, "d_kv": 16, "d_ff": 160}
GPT2_SIZES = {"vocab_size": 300, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 130} | {
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ROBERTA_SIZES = SIZES | {"pad_token_id": 1, "type_vocab_size": 1}
NETWORKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "electra": ("ElectraModel", "ElectraConfig", SIZES | {"embedding_size": 32}),
    "albert": ("AlbertModel", "AlbertConfig", SIZES | {"embedding_size": 32}),
    "deberta-v2": ("DebertaV2Model", "DebertaV2Config", SIZES | RELATIVE),
    "t5": ("T5EncoderModel", "T5Config", T5_SIZES),
    "gpt2": ("GPT2Model", "GPT2Config", GPT2_SIZES),
    "prelayernorm": ("RobertaPreLayerNormModel", "RobertaPreLayerNormConfig", ROBERTA_SIZES),
    "electra, usual weights": (
        "ElectraModel",
        "ElectraConfig",
        SIZES | {"embedding_size": 32, "initializer_range": 0.02},
    ),
    # The one that we have code for.
    "bert": ("BertModel", "BertConfig", SIZES),
}
ALL_POOLINGS = ["cls", "lasttoken", "max", "mean", "mean_sqrt_len_tokens", "weightedmean"]


def write(path: Path, content: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def directory_of(path: Path, family: str, *, poolings: list[str], dense: bool = False) -> Path:
    """A sentence-transformers directory of a small network with random weights."""
    import torch
    import transformers

    network, config, options = NETWORKS[family]
    torch.manual_seed(1)
    made = getattr(transformers, network)(getattr(transformers, config)(**options))
    made.save_pretrained(path)
    tokenizer = Library(models.WordLevel({word: row for row, word in enumerate(VOCABULARY)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path / "tokenizer.json"))
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]"}
    write(path / "tokenizer_config.json", names | {"tokenizer_class": "PreTrainedTokenizerFast"})
    write(path / "sentence_bert_config.json", {"max_seq_length": 128, "do_lower_case": False})
    folders = {"": "Transformer", "1_Pooling": "Pooling", "2_Dense": "Dense", "3_Normalize": "Normalize"}
    modules = [
        {"idx": index, "name": str(index), "path": folder, "type": f"sentence_transformers.models.{kind}"}
        for index, (folder, kind) in enumerate(folders.items())
        if dense or kind != "Dense"
    ]
    write(path / "modules.json", modules)
    size = 64 * len(poolings)
    write(path / "1_Pooling/config.json", {"embedding_dimension": 64, "pooling_mode": poolings})
    if dense:
        write(path / "2_Dense/config.json", {"in_features": size, "out_features": 48, "bias": True})
        random = np.random.default_rng(5)
        weight, bias = (random.standard_normal(shape, np.float32) for shape in ((48, size), (48,)))
        save_file({"linear.weight": weight / 8, "linear.bias": bias}, path / "2_Dense/model.safetensors")
    (path / "3_Normalize").mkdir()
    return path


def random_texts(count: int = 24) -> list[str]:
    """From one word to more than fit."""
    random = np.random.default_rng(7)
    lengths = [1, 126, 150, *random.integers(1, 127, count - 3).tolist()]
    return [" ".join(random.choice(VOCABULARY[4:], length)) for length in lengths]


def loaded(model: Model, precision: str = "fp32") -> Backend:
    return load_backend("transformers", model, LoadOptions(device="cpu", precision=precision))


def worst_cosine(left: Any, right: Any) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / norms).min())


@pytest.mark.parametrize(
    ("family", "poolings", "dense"),
    [
        ("electra", ["mean"], False),
        ("albert", ["cls"], False),
        ("deberta-v2", ["mean"], True),
        ("t5", ["mean"], True),
        ("gpt2", ["lasttoken"], False),
        ("electra", ALL_POOLINGS, True),
    ],
    ids=["electra", "albert", "deberta-v2", "t5", "gpt2", "all poolings"],
)
def test_the_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, family: str, poolings: list[str], dense: bool
) -> None:
    """Alone and in any company, from one word to texts that are cut: cosine of at least 0.99999."""
    directory, texts = directory_of(tmp_path / family, family, poolings=poolings, dense=dense), random_texts()
    expected = embed_with_peer(directory, texts)
    model = read_model(directory)
    backend = loaded(model)
    tokenizer = Tokenizer(model.transformer, max_tokens=model.max_text_tokens)
    tokens = tokenizer.encode(texts, Truncate.END).tokens
    assert backend.padded
    assert (backend.dim, backend.max_text_tokens) == (expected.shape[1], 128)
    together = backend.collect(backend.launch(tokens))
    assert worst_cosine(together, expected) >= 0.99999
    assert worst_cosine(embed_one_by_one(backend, tokens), together) >= 0.999999
    backend.close()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_16_bit_stays_near_fp32(tmp_path: Path, precision: str) -> None:
    """With weights as they are initialised every text keeps a cosine of 0.9999 to fp32."""
    model = read_model(directory_of(tmp_path / "narrow", "electra, usual weights", poolings=["mean"]))
    tokens = Tokenizer(model.transformer, max_tokens=128).encode(random_texts(), Truncate.END).tokens
    exact, narrow = loaded(model), loaded(model, precision)
    found, expected = (each.collect(each.launch(tokens)) for each in (narrow, exact))
    assert found.dtype == np.float32
    assert worst_cosine(found, expected) > 0.9999


def test_a_worker_serves_it_where_ours_cannot(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Automatic choice takes the transformers profile after ours said why they do not run."""
    directory = directory_of(tmp_path / "electra", "electra", poolings=["mean"])
    settings = Settings(model=str(directory), cpu_only=True, cache_path=tmp_path / "cache")
    booted = boot(settings)
    booted.backend.close()
    assert booted.profile.name == "cpu-fp32-transformers"
    assert booted.profile.tags["padded"] == "true"
    assert booted.verified.batch_cosine > 0.999999
    assert (
        'profile_failed name=cpu-fp32-onnx reason="only the transformers library supports model_type'
        in caplog.text
    )


def test_a_known_family_never_takes_it(tmp_path: Path) -> None:
    """The same sizes as a BERT run through our own network."""
    directory = directory_of(tmp_path / "bert", "bert", poolings=["mean"])
    booted = boot(Settings(model=str(directory), cpu_only=True, cache_path=tmp_path / "cache"))
    booted.backend.close()
    assert booted.profile.name == "cpu-fp32-onnx"


def test_what_cannot_be_right_is_refused(tmp_path: Path) -> None:
    """A tensor that is missing, a position table that is too short, token types, and a precision of ours."""
    directory = directory_of(tmp_path / "electra", "electra", poolings=["mean"])
    model = read_model(directory)
    with pytest.raises(BackendError, match="no precision 'fp8'"):
        loaded(model, "fp8")
    tokenizer = (directory / "tokenizer.json").read_text()
    typed = processors.TemplateProcessing(
        single="[CLS]:1 $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    changed = Library.from_str(tokenizer)
    changed.post_processor = typed
    changed.save(str(directory / "tokenizer.json"))
    with pytest.raises(BackendError, match="types other than 0"):
        loaded(model)
    (directory / "tokenizer.json").write_text(tokenizer)
    tensors = load_file(directory / "model.safetensors")
    name = next(name for name in tensors if name.endswith("attention.self.query.weight"))
    del tensors[name]
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackendError, match=r"attention\.self\.query\.weight is missing"):
        loaded(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"intermediate_size": 96}, "the weights have other shapes than config.json describes"),
        ({"model_type": "electra9"}, r"has no network 'electra9'; a newer version may \("),
        ({"hidden_act": "gilu"}, r"has the network 'electra', but cannot load it from these files \("),
    ],
    ids=["other shapes", "a newer family", "neither"],
)
def test_a_newer_version_is_recommended_only_where_it_may_help(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    """Weights of another model, or files with a fault, stay what they are."""
    directory = directory_of(tmp_path / "electra", "electra", poolings=["mean"])
    config = json.loads((directory / "config.json").read_text())
    write(directory / "config.json", config | change)
    with pytest.raises(BackendError, match=says):
        loaded(read_model(directory))


def test_positions_behind_a_padding_row_are_counted(tmp_path: Path) -> None:
    """130 rows, two of them never used, do not hold the 130 tokens that the files promise."""
    directory = directory_of(tmp_path / "model", "prelayernorm", poolings=["mean"])
    loaded(read_model(directory)).close()
    write(directory / "sentence_bert_config.json", {"max_seq_length": 130})
    with pytest.raises(BackendError, match="positions for 128 tokens, but the model's files state 130"):
        loaded(read_model(directory))


@pytest.mark.parametrize(
    ("family", "key", "followed"),
    [
        ("gpt2", {"is_causal": False}, True),
        ("gpt2", {"is_causal": True}, True),
        ("electra", {"is_causal": False}, True),
        ("gpt2", {"use_bidirectional_attention": True}, False),
        ("electra", {"use_bidirectional_attention": False}, False),
    ],
)
def test_a_stated_direction_is_followed_or_refused(
    tmp_path: Path, family: str, key: dict[str, bool], followed: bool
) -> None:
    """A version or family of transformers that ignores the key is found out by what it computes."""
    directory, texts = directory_of(tmp_path / family, family, poolings=["mean"]), random_texts()
    config = json.loads((directory / "config.json").read_text())
    write(directory / "config.json", config | key)
    model = read_model(directory)
    if not followed:
        with pytest.raises(BackendError, match=f"has {next(iter(key))} (true|false), which transformers"):
            loaded(model)
        return
    backend = loaded(model)
    tokens = Tokenizer(model.transformer, max_tokens=128).encode(texts, Truncate.END).tokens
    found = backend.collect(backend.launch(tokens))
    assert worst_cosine(found, embed_with_peer(directory, texts)) >= 0.99999
    backend.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "needs remote code"),
        ({"hidden_size": None}, "has no hidden_size or d_model"),
        ({"model_type": None}, "model_type None"),
    ],
    ids=["remote code", "no size", "no family"],
)
def test_a_config_that_says_too_little_or_too_much_is_refused(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    """Remote code never runs, and no size is guessed."""
    directory = directory_of(tmp_path / "electra", "electra", poolings=["mean"])
    config = json.loads((directory / "config.json").read_text())
    write(directory / "config.json", config | change)
    with pytest.raises(ModelError, match=reason):
        read_model(directory)
