"""Directories that hold something else than an embedding model: refused by what they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from support.model_directory import write

from producer.errors import ModelError
from worker.models.model import read_model

CONFIG: dict[str, Any] = {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 64,
}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A plain transformers directory."""
    write(tmp_path, "config.json", CONFIG)
    save_file({"w": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    return tmp_path


def add_modules(directory: Path, *kinds: str) -> None:
    rows = [("" if kind.endswith("Transformer") else kind.rpartition(".")[2], kind) for kind in kinds]
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.{kind}"}
        for index, (path, kind) in enumerate(rows)
    ]
    write(directory, "modules.json", modules)
    write(directory, "Pooling/config.json", {"pooling_mode": "mean"})


@pytest.mark.parametrize(
    ("architecture", "said"),
    [
        (
            "BertForSequenceClassification",
            "cross-encoder.*use it with CrossEncoder.*modules.json",
        ),
        ("RobertaForMultipleChoice", "cross-encoder"),
        ("BertForMaskedLM", "masked language model.*SPLADE's kind.*add the modules.json"),
        ("BertForPreTraining", "not trained to embed"),
        ("LlamaForCausalLM", "text generator"),
        ("GPT2LMHeadModel", "text generator"),
        ("T5ForConditionalGeneration", "sequence-to-sequence"),
        ("BertForTokenClassification", "tagger"),
        ("BertForQuestionAnswering", "question answerer"),
        ("HF_ColBERT", "late-interaction"),
        ("BertForSomethingElse", "head of another task"),
    ],
)
def test_a_network_with_another_head_is_refused_unless_modules_say_how_it_embeds(
    directory: Path, architecture: str, said: str
) -> None:
    """Many embedding models still name the head they were pretrained with; modules.json says more."""
    write(directory, "config.json", CONFIG | {"architectures": [architecture]})
    with pytest.raises(ModelError, match=f"{architecture}: .*{said}"):
        read_model(directory)
    add_modules(directory, "models.Transformer", "models.Pooling")
    assert read_model(directory).head.poolings == ("mean",)


@pytest.mark.parametrize(
    "architectures", [["BertModel"], ["Contriever"], ["NewModel", "NewForTokenClassification"], [], None]
)
def test_a_network_without_a_head_is_taken_as_it_is(directory: Path, architectures: Any) -> None:
    """As sentence-transformers takes it: the mean of its token vectors."""
    write(directory, "config.json", CONFIG | {"architectures": architectures})
    assert read_model(directory).head.poolings == ("mean",)


@pytest.mark.parametrize("saved", ["CrossEncoder", "SparseEncoder", "MultiVectorEncoder"])
def test_another_class_of_sentence_transformers_is_refused_by_its_name(directory: Path, saved: str) -> None:
    """Even where its modules are those of an embedding model."""
    add_modules(directory, "models.Transformer", "models.Pooling")
    write(directory, "config_sentence_transformers.json", {"model_type": saved})
    with pytest.raises(ModelError, match=f"says {saved}: "):
        read_model(directory)


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("sparse_encoder.models.MLMTransformer", "sparse_encoder.models.SpladePooling"), "sparse encoder"),
        (
            ("models.Transformer", "models.Pooling", "sparse_encoder.models.SparseAutoEncoder"),
            "sparse encoder",
        ),
        (("models.CLIPModel",), "images and texts"),
        (("models.Router",), "queries and documents"),
        (("models.Asym",), "queries and documents"),
        (("models.Transformer", "cross_encoder.modules.LogitScore"), "cross-encoder"),
    ],
)
def test_modules_of_other_models_are_refused_by_what_they_make(
    directory: Path, kinds: tuple[str, ...], said: str
) -> None:
    """The class's own name stands in the message too."""
    add_modules(directory, *kinds)
    with pytest.raises(ModelError, match=f"modules.json lists .*{said}"):
        read_model(directory)


@pytest.mark.parametrize(("key", "what"), [("vision_config", "images"), ("audio_config", "audio")])
def test_a_network_of_several_modalities_is_refused(directory: Path, key: str, what: str) -> None:
    """Its config.json has one of its own for each."""
    add_modules(directory, "models.Transformer", "models.Pooling")
    write(directory, "config.json", {"model_type": "clip", "text_config": {}, key: {}})
    with pytest.raises(ModelError, match=f"texts and {what}"):
        read_model(directory)


def test_an_adapter_is_not_taken_for_its_base_model(directory: Path) -> None:
    """With or without weights beside it: sentence-transformers would apply it."""
    write(directory, "adapter_config.json", {"peft_type": "LORA"})
    with pytest.raises(ModelError, match=r"adapter.*merge_and_unload"):
        read_model(directory)
    (directory / "config.json").unlink()
    with pytest.raises(ModelError, match="adapter"):
        read_model(directory)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model-q4.gguf", "llama.cpp"),
        ("tf_model.h5", "TensorFlow"),
        ("flax_model.msgpack", "Flax"),
        ("model.onnx", "EMBEDMILL_CUSTOM_MODEL"),
        ("onnx/model.onnx", "EMBEDMILL_CUSTOM_MODEL"),
    ],
)
def test_weights_of_other_programs_are_named(directory: Path, name: str, said: str) -> None:
    """And what to do with them."""
    (directory / "model.safetensors").unlink()
    write(directory, name, 1)
    with pytest.raises(ModelError, match=said):
        read_model(directory)


def test_a_directory_of_gguf_alone_is_named(tmp_path: Path) -> None:
    """It has no config.json either."""
    write(tmp_path, "model.gguf", 1)
    with pytest.raises(ModelError, match="GGUF"):
        read_model(tmp_path)


def test_a_pipeline_for_images_is_named(tmp_path: Path) -> None:
    """Diffusers' directories have a model_index.json instead."""
    write(tmp_path, "model_index.json", {})
    with pytest.raises(ModelError, match="pipeline for images"):
        read_model(tmp_path)
