"""The list of models that have a manifest."""

import json

from selection import model_listing, model_listing_json, shipped_models

#: NVIDIA's NIM lists these, under these names.
NIM = (
    "nvidia/nv-embedqa-e5-v5",
    "baai/bge-large-zh-v1.5",
    "baai/bge-m3",
    "snowflake/arctic-embed-l",
    "nvidia/nv-embedqa-mistral-7b-v2",
    "nvidia/llama-nemotron-embed-1b-v2",
    "nvidia/llama-3.2-nv-embedqa-1b-v2",
    "nvidia/llama-nemotron-embed-300m-v2",
    "nvidia/nemotron-3-embed-1b",
)


def test_a_line_for_each_model() -> None:
    """Below the headings, in the order of names; what computes no embeddings is left out."""
    head, *lines = model_listing(shipped_models()).splitlines()
    assert head.split() == ["model", "family", "dim", "tokens", "revision", "golden", "profiles"]
    names = [line.split()[0] for line in lines]
    assert len(names) == len(shipped_models())
    assert names == sorted(names, key=str.lower)
    assert not {"fake/echo", "generic"} & set(names)
    [minilm] = [line for line in lines if "all-MiniLM-L6-v2" in line]
    expected = "bert 384 256 1110a243fdf4 yes tensorrt-fp16, torch-16bit, onnx, cpu-int8, cpu"
    assert minilm.split()[1:] == expected.split()


def test_json_has_everything() -> None:
    """Also the whole revision, the hash of the weights and the prompts."""
    [e5] = [
        each for each in json.loads(model_listing_json(shipped_models())) if "e5-large-v2" in each["name"]
    ]
    assert e5["prompts"] == {"query": "query: ", "passage": "passage: "}
    assert (e5["dimension"], e5["max_text_tokens"], len(e5["revision"]), e5["golden"]) == (
        1024,
        512,
        40,
        False,
    )
    assert "torch-fp8" in e5["sets"]


def test_models_of_nim_have_a_manifest() -> None:
    """Under the names by which NIM's users know them."""
    cards = [each.model for each in shipped_models()]
    assert [name for name in NIM if not any(card.is_called(name) for card in cards)] == []
