"""Graphs as exporters write them, beside the files of a sentence-transformers model, against that library."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.model_directory import write
from support.random_networks import DISTIL_SIZES, GROUPED, SIZES, worst_cosine
from support.special_tokens import write_st_directory

from producer.contract import Truncate
from producer.errors import BackendError, ModelError
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.models.custom_model import read_custom_model
from worker.models.onnx.custom_files import find_custom_files
from worker.startup.make_golden import reference_vectors as embed_with_peer
from worker.tokenization.tokenizer import Tokenizer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]
PADDED_AT_1 = SIZES | {"max_position_embeddings": 130, "pad_token_id": 1, "type_vocab_size": 1}
BERT = ("Bert", SIZES | {"pad_token_id": 1})
SHORT_BERT = ("Bert", SIZES | {"pad_token_id": 1, "max_position_embeddings": 100})
DISTILBERT = ("DistilBert", DISTIL_SIZES | {"pad_token_id": 1})
TEXTS = [
    "w1 w2 w3",
    "",
    "w1 <pad> w2 <mask>",
    "<pad> w5 w6 <pad> <pad> w7",
    *(" ".join(f"w{(7 * place) % 290}" for place in range(count)) for count in (9, 40, 98, 700)),
]


@dataclass(frozen=True, kw_only=True)
class Export:
    """What an exporter was told: inputs by name, outputs by name, integers, a precision, a fixed length."""

    inputs: tuple[str, ...] = ("input_ids", "attention_mask", "token_type_ids")
    outputs: tuple[str, ...] = ("last_hidden_state",)
    ints: str = "int64"
    halves: bool = False
    fixed: int | None = None


def export(network: Any, graph: Path, how: Export, head: Callable[[Any, Any], Any]) -> None:
    """Write the network's graph; `head` computes the vectors from hidden states and mask."""
    import torch

    class Wrapped(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, *values: Any) -> Any:
            given = dict(zip(how.inputs, (value.long() for value in values), strict=True))
            states = self.network(**given).last_hidden_state
            made = {
                "last_hidden_state": states,
                "token_embeddings": states,
                "pooler_output": states[:, 0].tanh(),
                "sentence_embedding": head(states, given.get("attention_mask")),
                "text_embeds": states.amax(1),
                "embeddings": states[:, 0],
            }
            found = [made[name] for name in how.outputs]
            return tuple(each.half() for each in found) if how.halves else tuple(found)

    kind = getattr(torch, how.ints)
    ids = torch.randint(5, 200, (1 if how.fixed else 2, how.fixed or 7), dtype=kind)
    samples = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "token_type_ids": torch.zeros_like(ids),
        "position_ids": torch.arange(ids.shape[1], dtype=kind).expand(ids.shape) + 2,
    }
    axes = {
        name: {0: "batch"} if name in ("pooler_output", "sentence_embedding") else {0: "batch", 1: "sequence"}
        for name in (*how.inputs, *how.outputs)
    }
    graph.parent.mkdir(exist_ok=True)
    torch.onnx.export(
        Wrapped().eval(),
        tuple(samples[name] for name in how.inputs),
        str(graph),
        input_names=list(how.inputs),
        output_names=list(how.outputs),
        dynamic_axes=None if how.fixed else axes,
        opset_version=17,
        dynamo=False,
    )


def mean(states: Any, mask: Any) -> Any:
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def embedded(directory: Path) -> Any:
    """The vectors of the custom graph for TEXTS, one by one and together."""
    model = read_custom_model(find_custom_files(directory))
    tokenizer = Tokenizer(model.transformer, max_tokens=model.max_text_tokens)
    tokens = tokenizer.encode(TEXTS, Truncate.END).tokens
    backend = load_backend("onnx", model, LoadOptions(device="cpu", precision="fp32"))
    alone, together = embed_one_by_one(backend, tokens), backend.collect(backend.launch(tokens))
    backend.close()
    assert worst_cosine(together, alone) > 0.9999995
    return alone


@pytest.mark.parametrize(
    ("family", "how"),
    [
        (BERT, Export()),
        (BERT, Export(outputs=("last_hidden_state", "pooler_output"))),
        (BERT, Export(outputs=("token_embeddings", "sentence_embedding"))),
        (BERT, Export(inputs=("input_ids", "attention_mask", "position_ids"), ints="int32")),
        (SHORT_BERT, Export(fixed=100)),
        (DISTILBERT, Export(inputs=("input_ids", "attention_mask"), ints="int32")),
        (("XLMRoberta", PADDED_AT_1), Export(inputs=("input_ids", "attention_mask"))),
        (("XLMRoberta", PADDED_AT_1), Export(inputs=("input_ids", "attention_mask", "position_ids"))),
        (("MPNet", PADDED_AT_1), Export(inputs=("input_ids", "attention_mask", "position_ids"))),
        (("XLMRobertaXL", PADDED_AT_1), Export(inputs=("input_ids", "attention_mask", "position_ids"))),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else " ".join((*value.inputs[1:], *value.outputs)),
)
def test_an_export_gives_the_vectors_of_sentence_transformers(
    tmp_path: Path, family: tuple[str, dict[str, Any]], how: Export
) -> None:
    """Positions behind written-out padding, outputs and integers of any kind; the long text is cut alike."""
    network = write_st_directory(tmp_path, family, then=["Normalize"])
    export(network, tmp_path / "onnx/model.onnx", how, mean)
    assert worst_cosine(embedded(tmp_path), embed_with_peer(tmp_path, TEXTS)) > 0.999999


def test_a_model_of_unknown_code_has_the_length_that_its_files_state(tmp_path: Path) -> None:
    """Nomic's first config.json, whose keys no library knows: max_seq_length counts, not a guess of 512."""
    sizes = SIZES | {"max_position_embeddings": 2048}
    network = write_st_directory(tmp_path, ("NomicBert", sizes), max_tokens=600)
    expected = embed_with_peer(tmp_path, TEXTS)
    export(network, tmp_path / "onnx/model.onnx", Export(), mean)
    for old in ({}, {"n_positions": 2048}):
        write(tmp_path, "config.json", {"model_type": "nomic_bert", "auto_map": {"AutoModel": "x.Y"}} | old)
        assert read_custom_model(find_custom_files(tmp_path)).max_text_tokens == 600
    assert worst_cosine(embedded(tmp_path), expected) > 0.999999


def test_a_graph_that_takes_less_than_its_files_state_says_so(tmp_path: Path) -> None:
    """At the first long text, which verification has, with the setting that helps."""
    network = write_st_directory(tmp_path, BERT, max_tokens=600)
    export(network, tmp_path / "model.onnx", Export(), mean)
    config = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path, "config.json", config | {"max_position_embeddings": 2048})
    with pytest.raises(
        BackendError, match=r"on a text of 600 tokens \(if .* set max_seq_length in sentence_b"
    ):
        embedded(tmp_path)


def test_a_decoder_gets_no_earlier_tokens(tmp_path: Path) -> None:
    """Exports with a cache of keys and values, as for generation, are given an empty one."""
    import torch

    family = ("Qwen3", GROUPED | {"head_dim": 32, "pad_token_id": 1, "num_hidden_layers": 1})
    network = write_st_directory(tmp_path, family, pooling="lasttoken")
    caches = [f"past_key_values.0.{part}" for part in ("key", "value")]

    class WithCache(torch.nn.Module):  # type: ignore[misc]  # torch is Any to mypy
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, ids: Any, mask: Any, positions: Any, keys: Any, values: Any) -> Any:
            states = self.network(input_ids=ids, attention_mask=mask, position_ids=positions)
            # The cache's length shifts the result, so that it matters that it is empty.
            return states.last_hidden_state + keys.sum() + values.shape[2], torch.cat([keys, keys], dim=2)

    ids = torch.randint(5, 200, (2, 7))
    cache = torch.ones(2, 2, 3, 32)
    names, outputs = ["input_ids", "attention_mask", "position_ids"], ["last_hidden_state", "present.0.key"]
    axes = {name: {0: "batch", 1: "sequence"} for name in names}
    torch.onnx.export(
        WithCache().eval(),
        (ids, torch.ones_like(ids), torch.arange(7).expand(2, 7), cache, cache),
        str(tmp_path / "model.onnx"),
        input_names=names + caches,
        output_names=outputs,
        dynamic_axes=axes
        | {name: {0: "batch", 2: "past"} for name in (*caches, outputs[1])}
        | {outputs[0]: {0: "batch", 1: "sequence"}},
        opset_version=17,
        dynamo=False,
    )
    assert worst_cosine(embedded(tmp_path), embed_with_peer(tmp_path, TEXTS)) > 0.999999


def test_an_old_layout_keeps_the_tokenizer_in_its_transformers_folder(tmp_path: Path) -> None:
    """0_Transformer, which modules.json names."""
    network = write_st_directory(tmp_path, BERT, transformer="0_Transformer")
    export(network, tmp_path / "onnx/model.onnx", Export(), mean)
    assert worst_cosine(embedded(tmp_path), embed_with_peer(tmp_path, TEXTS)) > 0.999999


def test_a_graph_of_halves_is_pooled_in_float32(tmp_path: Path) -> None:
    """As precise as the halves that it outputs."""
    network = write_st_directory(tmp_path, BERT, then=["Normalize"])
    export(network, tmp_path / "model.onnx", Export(halves=True), mean)
    assert worst_cosine(embedded(tmp_path), embed_with_peer(tmp_path, TEXTS)) > 0.999999


def test_a_graph_that_pools_has_the_dense_layers_too_or_is_refused(tmp_path: Path) -> None:
    """Optimum's sentence_embedding is the last module's; a graph that stops at the pooling would lack one."""
    import torch

    network = write_st_directory(tmp_path, BERT, then=["Dense", "Normalize"])
    write(tmp_path, "2_Dense/config.json", {"in_features": 64, "out_features": 24, "bias": True})
    random = np.random.default_rng(5)
    weight, bias = (random.standard_normal(shape, np.float32) for shape in ((24, 64), (24,)))
    save_file({"linear.weight": weight, "linear.bias": bias}, tmp_path / "2_Dense/model.safetensors")

    def whole(states: Any, mask: Any) -> Any:
        dense = torch.nn.functional.linear(mean(states, mask), torch.tensor(weight), torch.tensor(bias))
        return torch.nn.functional.normalize(dense.tanh())

    outputs = ("token_embeddings", "sentence_embedding")
    expected = embed_with_peer(tmp_path, TEXTS)
    for how in (Export(outputs=outputs), Export()):
        export(network, tmp_path / "onnx/model.onnx", how, whole)
        assert worst_cosine(embedded(tmp_path), expected) > 0.999999
    export(network, tmp_path / "onnx/model.onnx", Export(outputs=outputs), mean)
    with pytest.raises(ModelError, match=r"64 values per text, but modules.json ends at 24; export a graph"):
        read_custom_model(find_custom_files(tmp_path))


def test_of_several_embeddings_one_has_to_be_named(tmp_path: Path) -> None:
    """The error lists the outputs and the variable; a name that is none of them is refused too."""
    network = write_st_directory(tmp_path, BERT)
    export(network, tmp_path / "model.onnx", Export(outputs=("text_embeds", "embeddings")), mean)
    with pytest.raises(
        ModelError, match=r"leave open which one .* text_embeds float32 .* EMBEDMILL_CUSTOM_OUT"
    ):
        read_custom_model(find_custom_files(tmp_path))
    with pytest.raises(ModelError, match="EMBEDMILL_CUSTOM_OUTPUT is 'vectors', which is no output"):
        read_custom_model(find_custom_files(tmp_path, output="vectors"))
    models = [
        read_custom_model(find_custom_files(tmp_path, output=name)) for name in ("text_embeds", "embeddings")
    ]
    assert len({model.revision for model in models}) == 2
    write(tmp_path, "1_Pooling/config.json", {"word_embedding_dimension": 64, "pooling_mode": "cls"})
    tokens = Tokenizer(models[1].transformer, max_tokens=100).encode(TEXTS, Truncate.END).tokens
    backend = load_backend("onnx", models[1], LoadOptions(device="cpu", precision="fp32"))
    found = embed_one_by_one(backend, tokens)
    backend.close()
    assert worst_cosine(found, embed_with_peer(tmp_path, TEXTS)) > 0.999999


def test_matryoshka_sizes_are_those_of_config_json(tmp_path: Path) -> None:
    """A graph of its own does not hide them."""
    network = write_st_directory(tmp_path, BERT)
    config = json.loads((tmp_path / "config.json").read_text())
    write(tmp_path, "config.json", config | {"matryoshka_dimensions": [64, 32]})
    export(network, tmp_path / "model.onnx", Export(), mean)
    assert read_custom_model(find_custom_files(tmp_path)).matryoshka_dims == (32, 64)
