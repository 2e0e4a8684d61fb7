"""Shipped manifests: what each says of its model agrees with the network that such files describe."""

import json
import math
import re
from collections import Counter
from typing import Any

import pytest

from selection import Manifest, shipped_models
from worker.models.architecture import is_known_family, read_architecture
from worker.models.weights import tensor_shapes

MANIFESTS = {each.path.stem: each for each in shipped_models()}

ROPE = {"rope_theta": 10_000.0, "max_position_embeddings": 32_768, "hidden_act": "silu", "rms_norm_eps": 1e-6}
ENCODER = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": 8192}
MODERN = {"hidden_activation": "gelu", "norm_eps": 1e-5, "local_attention": 128}
#: What the family's config.json says besides the sizes in a manifest.
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {"max_position_embeddings": 512, "type_vocab_size": 2},
    "mpnet": {"max_position_embeddings": 514},
    "roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "xlm-roberta": {"max_position_embeddings": 514, "type_vocab_size": 1},
    "nomic_bert": ENCODER | {"type_vocab_size": 2},
    "gte": ENCODER | {"type_vocab_size": 0},
    "modernbert": MODERN | {"max_position_embeddings": 8192},
    "qwen2": ROPE | {"num_key_value_heads": 2, "is_causal": False},
    "qwen3": ROPE | {"num_key_value_heads": 8, "head_dim": 128},
    "mistral": ROPE | {"num_key_value_heads": 8},
    "gemma3_text": ROPE
    | {
        "num_key_value_heads": 1,
        "head_dim": 256,
        "query_pre_attn_scalar": 256,
        "hidden_activation": "gelu_pytorch_tanh",
        "sliding_window": 512,
        "use_bidirectional_attention": True,
    },
    "llama_bidirec": ROPE | {"num_key_value_heads": 8},
}
#: Where a model's own differs.
MODELS: dict[str, dict[str, Any]] = {
    "bge-m3": {"max_position_embeddings": 8194},
    "snowflake-arctic-embed-l-v2.0": {"max_position_embeddings": 8194},
    "granite-embedding-30m-english": {"type_vocab_size": 2},
    "gte-multilingual-base": {"type_vocab_size": 1},
    "snowflake-arctic-embed-m-v2.0": {"type_vocab_size": 1},
}
#: Parameters of a model's Dense layers, where the hub counts them with the network's.
DENSE = {"embeddinggemma-300m": 2 * 768 * 3072}
#: Families whose checkpoints have a pooler, which counts as parameters.
WITH_POOLER = {"bert", "mpnet", "roberta", "xlm-roberta"}
SIZED = [
    stem
    for stem, each in MANIFESTS.items()
    if each.model.family in FAMILIES
    and is_known_family({"model_type": each.model.family})
    and each.model.num_parameters
    and each.model.heads
]


def config_of(manifest: Manifest) -> dict[str, Any]:
    """The config.json that the manifest describes."""
    model = manifest.model
    assert model.family is not None
    sizes = {
        "model_type": model.family,
        "vocab_size": model.vocabulary,
        "hidden_size": model.hidden,
        "intermediate_size": model.intermediate,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
    }
    return sizes | FAMILIES[model.family] | MODELS.get(manifest.path.stem, {})


@pytest.mark.parametrize("stem", SIZED)
def test_sizes_and_the_number_of_parameters_agree(stem: str) -> None:
    """The parameters, as the hub counts them, are those of a network with the manifest's other sizes."""
    model, network = MANIFESTS[stem].model, read_architecture(config_of(MANIFESTS[stem]))
    stored = sum(math.prod(shape) for shape in tensor_shapes(network).values())
    pooler = network.hidden * (network.hidden + 1) if model.family in WITH_POOLER else 0
    assert stored + pooler + DENSE.get(stem, 0) == model.num_parameters
    assert (model.max_text_tokens or 0) <= network.max_tokens


def test_most_manifests_are_checked_so() -> None:
    """The others state fewer sizes, or are of families that the test has no config.json of."""
    assert len(SIZED) > 40


@pytest.mark.parametrize("stem", [stem for stem, each in MANIFESTS.items() if each.model.family == "static"])
def test_a_table_is_all_there_is_to_a_static_model(stem: str) -> None:
    """Its parameters are rows times columns."""
    model = MANIFESTS[stem].model
    assert model.hidden == model.dimension
    if model.num_parameters is not None:
        assert (model.vocabulary or 0) * (model.hidden or 0) == model.num_parameters


@pytest.mark.parametrize("stem", list(MANIFESTS))
def test_what_a_manifest_says_is_well_formed(stem: str) -> None:
    """A revision is a whole commit, matryoshka sizes end with the whole vector, both input types are told."""
    model = MANIFESTS[stem].model
    assert stem == model.name.rpartition("/")[2].lower()
    assert model.revision is None or re.fullmatch("[0-9a-f]{40}", model.revision)
    assert model.dimension is not None
    if model.matryoshka:
        assert list(model.matryoshka) == sorted(set(model.matryoshka))
        assert model.matryoshka[-1] == model.dimension
    if model.prompts:
        assert {"query", "passage"} <= {*model.prompts, *model.input_types}
    assert {*model.input_types.values()} <= model.prompts.keys()
    on_hub = [source for source in model.pinned_sources if source.startswith("hf:")]
    assert on_hub == [f"hf:{model.name}" + (f"@{model.revision}" if model.revision else "")] or not on_hub


def test_no_name_leads_to_two_models() -> None:
    """In any case, with and without the owner."""
    names = Counter(
        name.lower()
        for each in MANIFESTS.values()
        for name in {each.model.name, each.model.name.rpartition("/")[2], *each.model.aliases}
    )
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("stem", [stem for stem, each in MANIFESTS.items() if each.model.golden])
def test_golden_vectors_are_of_the_model(stem: str) -> None:
    """They name the model, and the weights whose hash the manifest pins."""
    model = MANIFESTS[stem].model
    assert model.golden is not None
    stated = json.loads(model.golden.read_text(encoding="utf-8"))
    assert (stated["model"], stated["dim"]) == (model.name, model.dimension)
    assert model.weights_sha256 is not None
    assert model.weights_sha256.startswith(stated["revision"])
