"""StaticEmbedding: a text's vector is the mean of its tokens' rows, from every layout that people have."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.custom_graphs import MINILM
from support.random_networks import flat, worst_cosine
from support.static_models import NEW, NUM_TOKENS, OLD, SIZE, random_table, save_static, token_ids

from producer.contract import Truncate
from producer.errors import ModelError
from worker.backends import LoadOptions, load_backend
from worker.backends.onnx_session import CPU, open_session
from worker.graphs.packed.graph import build_packed_graph
from worker.graphs.packed.inputs import packed_inputs
from worker.graphs.padded.graph import build_padded_graph
from worker.graphs.padded.inputs import padded_inputs
from worker.models.model import read_model
from worker.models.safetensors_reader import SafetensorsFile
from worker.models.weights import read_weights
from worker.startup.loader import tokenizer_of
from worker.startup.make_golden import golden

TEXTS = [
    "The giant panda lives in a few mountain ranges.",
    "unbelievably long words: supercalifragilisticexpialidocious",
    "a",
    "[CLS] written out [SEP] by someone [PAD]",
    "Reykjavík 東京 🎉",
    "word " * 300,
]
TABLE = random_table()


def embedded(directory: Path, texts: list[str] = TEXTS, *, by: str = "onnx", precision: str = "fp32") -> Any:
    model = read_model(directory)
    tokenizer = tokenizer_of(model)
    backend = load_backend(by, model, LoadOptions(device="cpu", precision=precision, num_threads=1))
    try:
        return backend.collect(backend.launch(tokenizer.encode(texts, Truncate.END).tokens))
    finally:
        backend.close()


def means(table: Any = TABLE, *, longest: int | None = None) -> Any:
    return np.array([table[token_ids(text)[:longest]].mean(axis=0) for text in TEXTS])


@pytest.mark.parametrize("modules", [OLD, NEW])
@pytest.mark.parametrize("place", ["", ".", "0_StaticEmbedding"])
def test_sentence_transformers_layouts(tmp_path: Path, place: str, modules: str) -> None:
    """The class's old and new path, in a folder of its own or not, normalised where modules.json says so."""
    tensors = {"embedding.weight": TABLE}
    found = embedded(save_static(tmp_path, tensors, place=place, modules=modules))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    assert worst_cosine(found, means()) > 0.999999
    plain = embedded(save_static(tmp_path, tensors, place=place, modules=modules, normalize=False))
    np.testing.assert_allclose(plain, means(), atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
def test_a_model2vec_directory_without_modules(tmp_path: Path, normalize: bool) -> None:
    """Its config.json says whether vectors are normalised."""
    config = {"model_type": "model2vec", "normalize": normalize, "seq_length": 1_000_000, "apply_zipf": True}
    directory = save_static(tmp_path, {"embeddings": TABLE}, modules=None, config=config)
    assert read_model(directory).head.normalize is normalize
    assert worst_cosine(embedded(directory), means()) > 0.999999


@pytest.mark.parametrize("stored", [np.float32, np.float16, np.int8])
def test_a_quantised_vocabulary_of_model2vec(tmp_path: Path, stored: Any) -> None:
    """`mapping` and `weights` are folded into one row per token, whatever the table is stored as."""
    random = np.random.default_rng(2)
    few = (random_table(rows=500) * 20).astype(stored)
    mapping = random.integers(0, 500, NUM_TOKENS)
    factors = random.random(NUM_TOKENS)
    tensors = {"embeddings": few, "mapping": mapping, "weights": factors}
    found = embedded(save_static(tmp_path, tensors))
    folded = few.astype(np.float32)[mapping] * factors[:, None]
    assert worst_cosine(found, means(folded)) > 0.999999


def test_texts_are_cut_where_the_tokenizer_says(tmp_path: Path) -> None:
    """sentence-transformers keeps the truncation of tokenizer.json here, and knows no other limit."""
    save_static(tmp_path, {"embeddings": TABLE}, truncation=16, config={"model_type": "model2vec"})
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 4}')
    assert read_model(tmp_path).max_text_tokens == 16
    assert worst_cosine(embedded(tmp_path), means(longest=16)) > 0.999999
    save_static(tmp_path, {"embeddings": TABLE})
    assert read_model(tmp_path).max_text_tokens == 32_768


def test_only_tokenizer_json_counts(tmp_path: Path) -> None:
    """sentence-transformers reads no other file of this module's tokenizer, unlike a transformer's."""
    save_static(tmp_path, {"embeddings": TABLE})
    for name, content in (
        ("tokenizer_config.json", '{"do_lower_case": false, "tokenizer_class": "BertTokenizer"}'),
        ("added_tokens.json", '{"giant": 5}'),
        ("sentence_bert_config.json", '{"do_lower_case": true}'),
    ):
        (tmp_path / name).write_text(content)
    assert worst_cosine(embedded(tmp_path), means()) > 0.999999


@pytest.mark.peers
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_the_pytorch_encoder_computes_the_same(tmp_path: Path, precision: str) -> None:
    """Without layers its forward pass ends with the table."""
    save_static(tmp_path, {"embeddings": TABLE})
    bound = 0.999999 if precision == "fp32" else 0.9999
    assert worst_cosine(embedded(tmp_path, by="torch", precision=precision), means()) > bound


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_graphs_for_gpus_compute_the_same(tmp_path: Path, precision: str) -> None:
    """The one for ONNX Runtime's CUDA provider and the padded one for TensorRT, run on the CPU."""
    model = read_model(save_static(tmp_path, {"embeddings": TABLE}))
    weights = read_weights(model.transformer, model.architecture)
    tokens = flat([token_ids(text).tolist() for text in TEXTS])
    packed = build_packed_graph(model, weights, precision=precision)
    inputs = packed_inputs(tokens, np.arange(len(tokens)), model.architecture.position_offset)
    padded = build_padded_graph(model, weights, precision=precision).graph
    size = int(tokens.lengths.max())
    padded_to = padded_inputs(tokens, np.arange(len(tokens)), 0, num_texts=len(tokens), num_tokens=size)
    for graph, feed in ((packed, inputs), (padded, padded_to)):
        [found] = open_session(graph, CPU).run(["vectors"], feed)
        assert worst_cosine(found, means()) > (0.999999 if precision == "fp32" else 0.9999)


@pytest.mark.parametrize(
    ("tensors", "says"),
    [
        ({"embeddings": TABLE, "bias": TABLE[0]}, "tensor bias does not belong"),
        ({"table": TABLE}, "the tensor embedding.weight or embeddings, but the file has table"),
        ({"embeddings": TABLE[0]}, "embeddings has shape"),
        ({"embeddings": TABLE, "weights": TABLE[:9, 0]}, "weights has 9 numbers for 30522 tokens"),
        ({"embeddings": TABLE, "mapping": TABLE}, "mapping has shape"),
    ],
)
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, tensors: Any, says: str) -> None:
    """At reading, before anything is loaded."""
    with pytest.raises(ModelError, match=says):
        read_model(
            save_static(tmp_path, {name: np.ascontiguousarray(each) for name, each in tensors.items()})
        )


def test_a_mapping_to_rows_that_are_not_there_is_refused(tmp_path: Path) -> None:
    """At loading."""
    tensors = {"embeddings": TABLE[:5].copy(), "mapping": np.full(NUM_TOKENS, 5)}
    with pytest.raises(ModelError, match="rows that the table of 5 does not have"):
        embedded(save_static(tmp_path, tensors))


def test_an_integer_weight_of_another_network_is_still_refused(tmp_path: Path) -> None:
    """Only here do integers have no scale."""
    save_file({"x": np.ones(SIZE, np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="stored as I8"):
        SafetensorsFile(tmp_path / "model.safetensors").read("x")


def real_table() -> Any:
    """The rows of a trained model's tokens, MiniLM's."""
    return SafetensorsFile(MINILM / "model.safetensors").read("embeddings.word_embeddings.weight")


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_golden_vectors_can_be_made(tmp_path: Path) -> None:
    """Of the texts that have tokens; there is no class of transformers whose ids could be stored."""
    content = golden(save_static(tmp_path, {"embeddings": TABLE}))
    assert "" not in content["texts"]
    assert "ids" not in content
    assert content["dim"] == SIZE


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("backend", ["onnx", "torch"])
@pytest.mark.parametrize(
    ("tensors", "layout"),
    [
        (lambda: {"embedding.weight": TABLE}, {"place": "0_StaticEmbedding", "modules": NEW}),
        (lambda: {"embedding.weight": real_table()}, {"normalize": False}),
        (lambda: {"embeddings": real_table()}, {"place": ".", "config": {"model_type": "model2vec"}}),
        (lambda: {"embeddings": real_table()}, {"truncation": 12}),
        (
            lambda: {
                "embeddings": TABLE[:500].copy(),
                "mapping": np.arange(NUM_TOKENS) % 500,
                "weights": np.linspace(0.1, 2, NUM_TOKENS),
            },
            {},
        ),
    ],
)
def test_vectors_are_those_of_sentence_transformers(
    tmp_path: Path, tensors: Any, layout: Any, backend: str
) -> None:
    """For random and for trained rows, in every layout."""
    from sentence_transformers import SentenceTransformer

    directory = save_static(tmp_path, tensors(), **layout)
    reference = SentenceTransformer(str(directory), device="cpu").encode(TEXTS)
    assert worst_cosine(embedded(directory, by=backend), reference) > 0.999999
