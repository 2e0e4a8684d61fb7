"""Refuses what is no embedding model by what it is, with a word on what to do with it."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from producer.errors import ModelError

_CROSS_ENCODER = (
    "a classifier or reranker (cross-encoder): its network gives scores for labels or pairs of texts, no "
    "vectors; use it with CrossEncoder of sentence-transformers"
)
_LANGUAGE_MODEL = (
    "a text generator: its network predicts the next token, and nothing says how its vectors are pooled"
)
# The end of a class in `architectures` -> what the model is.
_HEADS = {
    "ForSequenceClassification": _CROSS_ENCODER,
    "ForMultipleChoice": _CROSS_ENCODER,
    "ForNextSentencePrediction": _CROSS_ENCODER,
    "ForMaskedLM": (
        "a masked language model: either one of SPLADE's kind, whose sparse vectors over the vocabulary are "
        "not served, or a network that was not trained to embed"
    ),
    "ForPreTraining": "a pretrained network that was not trained to embed",
    "ForCausalLM": _LANGUAGE_MODEL,
    "LMHeadModel": _LANGUAGE_MODEL,
    "ForConditionalGeneration": "a sequence-to-sequence model: it generates texts",
    "ForTokenClassification": "a tagger: its network labels tokens",
    "ForQuestionAnswering": "an extractive question answerer: its network marks spans of a text",
    "ColBERT": (
        "a late-interaction model (ColBERT) with a vector per token; only models with one vector per text "
        "are served"
    ),
}
_WAY_OUT = (
    "; if it is an embedding model all the same, add the modules.json and 1_Pooling/config.json of "
    "sentence-transformers that say how"
)
_OTHER_HEAD = re.compile(r"For[A-Z]\w+$")
# Parts of a config.json that only networks of several modalities have.
_MODALITIES = {
    "vision_config": "images",
    "vision_config_dict": "images",
    "audio_config": "audio",
    "speech_config": "audio",
}
# model_type in config_sentence_transformers.json -> what sentence-transformers saved.
_SAVED = {
    "CrossEncoder": _CROSS_ENCODER,
    "SparseEncoder": "a sparse encoder, whose vectors over the vocabulary are not served",
    "MultiVectorEncoder": "a late-interaction model with a vector per token, which is not served",
}


def refuse_other_formats(directory: Path) -> None:
    """Raise ModelError for a directory with an adapter or with weights of another program."""
    adapter = directory / "adapter_config.json"
    if adapter.is_file():
        raise ModelError(
            f"{directory} is an adapter (adapter_config.json), not a model; merge it into its base model "
            "with merge_and_unload() of peft, and save the result with save_pretrained()"
        )
    if (directory / "config.json").is_file():
        return
    foreign = sorted(directory.glob("*.gguf"))
    if foreign:
        raise ModelError(
            f"{directory} has {foreign[0].name}, weights for llama.cpp (GGUF), which are not served; "
            "download the safetensors that they were converted from"
        )
    if (directory / "model_index.json").is_file():
        raise ModelError(f"{directory} is a pipeline for images (model_index.json), not an embedding model")


def refuse_other_encoders(st_config: Mapping[str, Any]) -> None:
    """Raise ModelError if a config_sentence_transformers.json is that of another class of model."""
    saved = st_config.get("model_type")
    if isinstance(saved, str) and saved in _SAVED:
        raise ModelError(f"config_sentence_transformers.json says {saved}: {_SAVED[saved]}")


def refuse_other_networks(config: Mapping[str, Any], *, has_modules: bool) -> None:
    """Raise ModelError for a config.json of a network that gives no vector per text.

    A model that `has_modules` says by them how it embeds, whatever head its network once had.
    """
    for key, modality in _MODALITIES.items():
        if isinstance(config.get(key), dict):
            raise ModelError(
                f"the model is one of texts and {modality} (config.json has {key}); only text models are "
                "served"
            )
    names = config.get("architectures")
    if has_modules or not isinstance(names, list) or not names:
        return
    found = [(str(name), _what(str(name))) for name in names]
    name, what = found[0]
    # The bare network may be listed beside those with a head.
    if all(what for _, what in found):
        raise ModelError(f"config.json says {name:.60}: {what}{_WAY_OUT}")


def _what(name: str) -> str | None:
    """What a class in `architectures` is, None if it may embed."""
    known = next((what for end, what in _HEADS.items() if name.endswith(end)), None)
    if known is None and _OTHER_HEAD.search(name):
        return "a network with the head of another task"
    return known
