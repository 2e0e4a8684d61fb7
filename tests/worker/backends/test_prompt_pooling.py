"""Models that leave a prompt's tokens out of pooling: every backend against sentence-transformers in fp32."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.custom_graphs import MINILM, states_of, write_model
from support.model_directory import write
from support.onnx_models import architecture, by_onnx, head, model_of, random_tokens, random_weights
from support.packed_attention import for_cpu
from support.random_networks import worst_cosine
from support.tiny_model import write_tiny_model

from producer.contract import Truncate
from producer.errors import BackendError, ModelError
from worker.backends import LoadOptions, load_backend
from worker.backends.onnx_cuda import OnnxCudaBackend
from worker.backends.onnx_session import CPU, open_session
from worker.backends.token_batches import embed_one_by_one
from worker.contract import Backend, FloatArray, Tokens
from worker.graphs.packed.graph import build_packed_graph
from worker.graphs.padded.graph import build_padded_graph
from worker.graphs.padded.inputs import padded_inputs
from worker.models.custom_model import read_custom_model
from worker.models.model import Model, read_model
from worker.models.onnx.custom_files import find_custom_files
from worker.tokenization.tokenizer import Tokenizer

PROMPTS = {"short": "query: ", "long": "Represent the Science statement for retrieval: ", "none": ""}
WORDS = "nine floods in the last two thousand years are on record in the delta "
TEXTS = ["", "a", "A man is eating food.", WORDS, "query: " + WORDS, WORDS * 9]
POOLINGS = ["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean", ["cls", "mean"]]


def write_prompted(directory: Path, pooling: str | list[str]) -> Path:
    """A small BERT that leaves prompts out of pooling."""
    write_tiny_model(directory)
    for name in ("tokenizer_config.json", "special_tokens_map.json", "vocab.txt"):
        shutil.copy(MINILM / name, directory)
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    write(
        directory,
        "modules.json",
        [
            {"idx": at, "name": str(at), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for at, (path, kind) in enumerate(kinds.items())
        ],
    )
    pooling_config = {"word_embedding_dimension": 8, "pooling_mode": pooling, "include_prompt": False}
    write(directory, "1_Pooling/config.json", pooling_config)
    write(directory, "sentence_bert_config.json", {"max_seq_length": 48})
    write(directory, "config_sentence_transformers.json", {"prompts": PROMPTS})
    return directory


def prompted(tokenizer: Tokenizer, texts: list[str], prompt: str) -> Tokens:
    texts = [prompt + text for text in texts]
    return tokenizer.encode(texts, Truncate.END, num_unpooled=tokenizer.num_unpooled(prompt)).tokens


def embed(backend: Backend, tokens: Tokens) -> FloatArray:
    try:
        together = backend.collect(backend.launch(tokens))
        np.testing.assert_allclose(together, embed_one_by_one(backend, tokens), atol=2e-5)
    finally:
        backend.close()
    return together


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("pooling", POOLINGS, ids=str)
def test_the_vectors_are_those_of_sentence_transformers(tmp_path: Path, pooling: str | list[str]) -> None:
    """For every pooling, prompt and backend: the prompt is attended to, and its tokens are not pooled."""
    from sentence_transformers import SentenceTransformer

    model = read_model(write_prompted(tmp_path, pooling))
    reference = SentenceTransformer(str(tmp_path), device="cpu")
    tokenizer = Tokenizer(tmp_path, max_tokens=model.max_text_tokens, pools_prompts=False)
    for name, prompt in PROMPTS.items():
        expected = reference.encode(TEXTS, prompt_name=name, batch_size=3)
        tokens = prompted(tokenizer, TEXTS, prompt)
        for backend in ("onnx", "torch", "transformers"):
            found = embed(load_backend(backend, model, LoadOptions(num_threads=1)), tokens)
            assert worst_cosine(found, expected) > 0.999999, (name, backend)
            np.testing.assert_allclose(found, expected, atol=2e-5)


def unpooled(tokens: Tokens) -> Tokens:
    """Random texts of which some are pooled from the start, some from within, some at the last token."""
    shares = np.resize([0.0, 0.5, 1.0], len(tokens))
    return Tokens(tokens.ids, tokens.offsets, ((tokens.lengths - 1) * shares).astype(np.int32))


@pytest.mark.parametrize(
    "pooling", ["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"]
)
def test_the_packed_graph_pools_what_the_graph_for_cpus_pools(pooling: Any) -> None:
    """With the operators of the CUDA provider."""
    network, tokens = architecture(), unpooled(random_tokens())
    model = model_of(network, head(pooling, normalize=False, include_prompt=False))
    weights = random_weights(network)
    graph = for_cpu(build_packed_graph(model, weights, precision="fp32"))
    session = open_session(graph, CPU)
    backend = OnnxCudaBackend(session, graph, model, device="cpu", max_batch_tokens=400)
    np.testing.assert_allclose(embed(backend, tokens), by_onnx(model, weights, tokens), atol=2e-5)


@pytest.mark.parametrize(
    "pooling", ["mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens", "weightedmean"]
)
def test_the_padded_graph_pools_what_the_graph_for_cpus_pools(pooling: Any) -> None:
    """With standard operators, whatever the padding, as TensorRT gets it."""
    network, tokens = architecture(), unpooled(random_tokens())
    model = model_of(network, head(pooling, normalize=False, include_prompt=False))
    weights = random_weights(network)
    session = open_session(build_padded_graph(model, weights).graph, CPU)
    texts = np.arange(len(tokens))
    inputs = padded_inputs(tokens, texts, 0, num_texts=8, num_tokens=36, pools_prompts=False)
    found = session.run(["vectors"], inputs)[0][: len(texts)]
    np.testing.assert_allclose(found, by_onnx(model, weights, tokens), atol=2e-5)


@pytest.mark.parametrize("pooling", ["mean", "weightedmean"])
@pytest.mark.parametrize("shape", [("batch", "sequence"), (2, 64)], ids=str)
def test_a_custom_graph_is_pooled_without_the_prompt(
    tmp_path: Path, shape: tuple[int | str, int | str], pooling: str
) -> None:
    """Its hidden states are pooled by our head, whatever shape the graph takes."""
    write_model(tmp_path, shape=shape)
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode": pooling, "include_prompt": False})
    model = read_custom_model(find_custom_files(tmp_path))
    tokens = prompted(Tokenizer(tmp_path, max_tokens=64, pools_prompts=False), TEXTS, PROMPTS["short"])
    assert tokens.num_unpooled is not None
    expected = []
    texts = np.split(tokens.ids, tokens.offsets[1:-1])
    for ids, first in zip(texts, tokens.num_unpooled.tolist(), strict=True):
        weights = np.arange(first, len(ids)) + 1 if pooling == "weightedmean" else None
        expected.append(np.average(states_of(ids)[first:], axis=0, weights=weights))
    np.testing.assert_allclose(embed(load_backend("onnx", model, LoadOptions()), tokens), expected, atol=1e-5)


def test_a_custom_graph_that_pools_by_itself_is_refused(tmp_path: Path) -> None:
    """Its vectors would contain the prompt; without prompts there is nothing to leave out."""
    write_model(tmp_path, pooled=True, output="sentence_embedding")
    write(tmp_path, "1_Pooling/config.json", {"pooling_mode": "mean", "include_prompt": False})
    assert read_custom_model(find_custom_files(tmp_path)).prompts == {}
    write(tmp_path, "config_sentence_transformers.json", {"prompts": PROMPTS})
    with pytest.raises(ModelError, match=r"include_prompt.*model\.onnx pools all tokens itself"):
        read_custom_model(find_custom_files(tmp_path))


def test_a_batch_without_a_token_to_pool_is_refused(tmp_path: Path) -> None:
    """The tokenizer has failed such a text before."""
    model: Model = read_model(write_prompted(tmp_path, "mean"))
    backend = load_backend("onnx", model, LoadOptions(num_threads=1))
    ids, offsets = np.array([5, 6, 7], np.int32), np.array([0, 1, 3], np.int32)
    for wrong in ([0, 2], [-1, 0], [0]):
        with pytest.raises(BackendError, match="at least one token of each text to pool"):
            backend.launch(Tokens(ids, offsets, np.array(wrong, np.int32)))
    backend.close()
