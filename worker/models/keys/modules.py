"""The keys that sentence-transformers writes for its modules, and what we read, ignore and refuse of them."""

from collections.abc import Mapping
from typing import Any

from producer.errors import ModelError
from worker.models.keys.table import KeyTable, check_keys, keys

_ON_THE_VECTOR = {"module_input_name": ("sentence_embedding",), "module_output_name": ("sentence_embedding",)}

#: Class of a module -> the keys of the config.json in its folder
MODULE_KEYS: dict[str, KeyTable] = {
    "Pooling": keys(
        """
        pooling_mode pooling_mode_cls_token pooling_mode_max_tokens pooling_mode_mean_tokens
        pooling_mode_mean_sqrt_len_tokens pooling_mode_weightedmean_tokens pooling_mode_lasttoken
        include_prompt
        """,
        harmless="word_embedding_dimension embedding_dimension",
    ),
    "Dense": keys(
        "in_features out_features bias activation_function", only=_ON_THE_VECTOR | {"use_residual": (False,)}
    ),
    "LayerNorm": keys("dimension"),
    "Dropout": keys(harmless="dropout"),
    "Normalize": keys(only=_ON_THE_VECTOR),
}

# sentence_bert_config.json. Arguments of the libraries it passes on are checked one by one.
_ARGUMENTS = (
    ("model_args", "model_kwargs"),
    ("tokenizer_args", "processor_kwargs"),
    ("config_args", "config_kwargs"),
)  # each by its old and its new name
_TRANSFORMER = keys(
    "max_seq_length do_lower_case modality_config processing_kwargs "
    + " ".join(name for names in _ARGUMENTS for name in names),
    harmless="unpad_inputs backend",
    only={
        "transformer_task": ("feature-extraction",),
        "module_output_name": ("token_embeddings",),
        "tokenizer_name_or_path": (),
        "query_length": (),
        "document_length": (),
        "query_expansion": (),
    },
)
_LOADING = "trust_remote_code cache_dir local_files_only token revision use_auth_token"
_MODEL_ARGUMENTS = keys(
    harmless=_LOADING
    + """
        torch_dtype dtype attn_implementation device_map low_cpu_mem_usage use_safetensors add_pooling_layer
        ignore_mismatched_sizes provider file_name export
    """
)
_TOKENIZER_ARGUMENTS = keys(harmless=_LOADING + " use_fast padding_side pad_to_multiple_of")
_CONFIG_ARGUMENTS = keys(harmless=_LOADING + " use_cache use_memory_efficient_attention unpad_inputs")
_PROCESSING = keys(harmless="image audio video chat_template")
_TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}

_SENTENCE_TRANSFORMERS = keys(
    "prompts default_prompt_name similarity_fn_name",
    harmless="__version__ requirements",
    only={"model_type": ("SentenceTransformer",), "truncate_dim": ()},
)


def check_module_keys(config: Mapping[str, Any], kind: str, *, file: str) -> None:
    """Raise ModelError if the config of a module of class `kind` says more than we compute."""
    check_keys(config, MODULE_KEYS[kind], file=file, reader=f"{kind} module")


def check_transformer_settings(settings: Mapping[str, Any], *, network: Mapping[str, Any]) -> None:
    """Raise ModelError if a sentence_bert_config.json says more than we compute.

    `network` is the config.json beside it, some of whose keys the settings may repeat.
    """
    file, reader = "sentence_bert_config.json", "Transformer module"
    check_keys(settings, _TRANSFORMER, file=file, reader=reader)
    same = {key: (value,) for key, value in network.items()}
    limit = {"model_max_length": (settings.get("max_seq_length"),)}
    tables = (_MODEL_ARGUMENTS, _TOKENIZER_ARGUMENTS | keys(only=limit), _CONFIG_ARGUMENTS | keys(only=same))
    for names, table in zip(_ARGUMENTS, tables, strict=True):
        for name in names:
            check_keys(settings.get(name) or {}, table, file=file, reader=f"reading of {name}")
    check_keys(settings.get("processing_kwargs") or {}, _PROCESSING, file=file, reader="tokenization")
    modalities = settings.get("modality_config") or {"text": _TEXT}
    text = modalities.get("text") if isinstance(modalities, dict) else None
    if text != _TEXT:
        raise ModelError(
            f"{file} computes texts as {text!r:.80}; supported are the vectors of a network's last layer"
        )


def check_sentence_transformers_keys(config: Mapping[str, Any]) -> None:
    """Raise ModelError if a config_sentence_transformers.json says more than we compute."""
    check_keys(
        config, _SENTENCE_TRANSFORMERS, file="config_sentence_transformers.json", reader="SentenceTransformer"
    )
