"""Special tokens written out in a text, padding above all: every backend does as sentence-transformers."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from support.random_networks import GROUPED, SIZES, worst_cosine
from support.special_tokens import write_st_directory

from producer.contract import Truncate
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.contract import Tokens
from worker.graphs.inline import inlined
from worker.graphs.padded.graph import build_padded_graph
from worker.graphs.padded.inputs import padded_inputs
from worker.models.model import Model, read_model
from worker.models.unknown_family import UnknownFamily
from worker.models.weights import read_weights
from worker.startup.make_golden import reference_vectors as embed_with_peer
from worker.tokenization.tokenizer import Tokenizer

pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(300),
    # Of the libraries we compare ourselves with.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning"),
]
TEXTS = [
    "w1 w2 w3",
    "w1 <pad> w2",
    "<pad>",
    "<pad><pad><pad>",
    "<pad> w5 w6 <pad>",
    "w7 <s> w8 </s> w9 <mask> w10 <pad> <pad> w11",
    "w12 " * 30 + "<pad> " * 7 + "w13 " * 20,
    "w14 <pad> " * 40,
]
PADDED_AT_1 = SIZES | {"max_position_embeddings": 130, "pad_token_id": 1, "type_vocab_size": 1}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("Bert", SIZES | {"pad_token_id": 1}),
    "roberta": ("Roberta", PADDED_AT_1),
    "xlm-roberta": ("XLMRoberta", PADDED_AT_1),
    "camembert": ("Camembert", PADDED_AT_1),
    "mpnet": ("MPNet", PADDED_AT_1),
    "modernbert": ("ModernBert", SIZES | {"pad_token_id": 1, "local_attention": 32}),
    "qwen3": ("Qwen3", GROUPED | {"head_dim": 32, "pad_token_id": 1}),
    # Only by the library transformers.
    "xlm-roberta-xl": ("XLMRobertaXL", PADDED_AT_1),
    "electra": ("Electra", SIZES | {"embedding_size": 32, "pad_token_id": 1}),
}


def by_the_padded_graph(model: Model, tokens: Tokens) -> Any:
    """The graph that TensorRT runs, by ONNX Runtime on the CPU, all texts in one batch."""
    graph = build_padded_graph(model, read_weights(model.transformer, model.architecture)).graph
    session = onnxruntime.InferenceSession(inlined(graph), providers=["CPUExecutionProvider"])
    texts, offset = np.arange(len(tokens)), model.architecture.position_offset
    inputs = padded_inputs(tokens, texts, offset, num_texts=len(tokens), num_tokens=104)
    return session.run(["vectors"], inputs)[0]


@pytest.mark.parametrize("pooling", ["mean", "lasttoken"])
@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_special_token_in_a_text_counts_as_text(tmp_path: Path, family: str, pooling: str) -> None:
    """It is attended to and pooled; only the position of padding, and those behind it, follow the family."""
    write_st_directory(tmp_path, FAMILIES[family], pooling=pooling)
    model = read_model(tmp_path)
    expected = embed_with_peer(model.directory, TEXTS)
    tokens = Tokenizer(model.transformer, max_tokens=model.max_text_tokens).encode(TEXTS, Truncate.END).tokens
    assert (tokens.ids == 1).sum() > 40
    ours = not isinstance(model.network, UnknownFamily)
    for name in ("onnx", "torch", "transformers") if ours else ("transformers",):
        backend = load_backend(name, model, LoadOptions(device="cpu", precision="fp32"))
        alone, together = embed_one_by_one(backend, tokens), backend.collect(backend.launch(tokens))
        backend.close()
        assert worst_cosine(alone, expected) > 0.999999, name
        assert worst_cosine(together, expected) > 0.999999, name
    if ours:
        assert worst_cosine(by_the_padded_graph(model, tokens), expected) > 0.999999
