"""Other values for the keys of a family's config.json: all that transformers knows, and what the hub adds."""

from collections.abc import Iterator, Mapping
from typing import Any

#: The look-alike of each family that has a network of ours, without remote code.
FAMILIES = {
    "bert": "minilm",
    "roberta": "all-distilroberta",
    "xlm-roberta": "multilingual-e5",
    "camembert": "sentence-camembert",
    "mpnet": "multi-qa-mpnet-dot",
    "distilbert": "msmarco-distilbert",
    "modernbert": "gte-modernbert",
    "nomic_bert": "nomic-without-remote-code",
    "gte": "gte-without-remote-code",
    "qwen3": "qwen3-embedding",
    "qwen2": "qwen2-causal",
    "llama": "llama-causal",
    "mistral": "gritlm",
    "gemma2": "bge-multilingual-gemma2",
    "gemma3_text": "embeddinggemma",
}
# What a number, a word or nothing may be instead.
_ACTIVATIONS = ("relu", "gelu_new", "gelu_pytorch_tanh", "silu", "quick_gelu", "gelu_10", "mish")
_ROPES: tuple[dict[str, Any], ...] = (
    {"rope_type": "linear", "factor": 2.0},
    {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 64},
    {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    {"rope_type": "default", "partial_rotary_factor": 0.5},
)
# Keys that are no fields of transformers' class, but which it or older versions read.
_MORE: dict[str, tuple[Any, ...]] = {
    "position_embedding_type": ("relative_key", "relative_key_query"),
    "is_causal": (False, True),
    "is_decoder": (True,),
    "add_cross_attention": (True,),
    "use_bidirectional_attention": (True, False, "all"),
    "rope_theta": (77.0,),
    "rope_scaling": _ROPES,
    "partial_rotary_factor": (0.5,),
    "global_rope_theta": (77.0,),
    "local_rope_theta": (77.0,),
    "rope_local_base_freq": (77.0,),
    "global_attn_every_n_layers": (1, 2),
    "sliding_window_pattern": (2,),
    "layer_types": (["full_attention"] * 2, ["sliding_attention"] * 4, ["chunked_attention"] * 2),
    "attn_logit_softcapping": (5.0,),
    "chunk_size_feed_forward": (2,),
    "is_encoder_decoder": (True,),
    "tie_word_embeddings": (True, False),
    "embedding_size": (32,),
    "attention_multiplier": (0.3,),
    "embedding_multiplier": (3.0,),
    "residual_multiplier": (0.3,),
}
# Changing these does not describe another network of the same kind.
_KEPT = {
    "vocab_size",
    "model_type",
    "rope_parameters",
    "layer_types",
    "architectures",
    "transformers_version",
}


def flips(config: Any) -> Iterator[tuple[str, Any]]:
    """Each key with each value to try; `config` is transformers' own object of the family."""
    known = {name: each for name, each in config.to_dict().items() if name not in _KEPT}
    for name, value in known.items():
        for other in _others(name, value):
            yield name, other
    for name, values in _MORE.items():
        yield from ((name, each) for each in values if each != known.get(name))
    for rope in _ROPES:
        yield "rope_parameters", rope | {"rope_theta": 10_000.0}
        yield "rope_parameters", {kind: rope for kind in ("full_attention", "sliding_attention")}


def changed(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each key of a published config.json, with the values to try."""
    for name, value in config.items():
        if name not in {*_KEPT, "auto_map"} and (others := _others(name, value)):
            yield name, others


def _others(name: str, value: Any) -> tuple[Any, ...]:
    if "act" in name and isinstance(value, str):
        return tuple(each for each in _ACTIVATIONS if each != value)
    match value:
        case bool():
            return (not value,)
        case int():
            return (value + 1, 2 * value) if value > 0 else (1, 3)
        case float():
            return (value + 0.25 if value < 10 else value * 3,)
        case None:
            return (1,)
        case _:
            return ()


# They have no part in inference, or choose between ways to compute the same.
_UNUSED = "bos_token_id eos_token_id initializer_range use_cache classifier_dropout tie_word_embeddings"
_NOMIC_UNUSED = """
    attn_pdrop embd_pdrop resid_pdrop fused_bias_fc fused_dropout_add_ln reorder_and_upcast_attn
    use_flash_attn
    max_trained_positions n_positions max_position_embeddings rotary_scaling_factor pad_vocab_size_multiple
    parallel_block_tied_norm dense_seq_output use_xentropy
    summary_activation summary_first_dropout summary_proj_to_labels summary_use_proj
"""
_NEW_UNUSED = """
    max_position_embeddings attention_probs_dropout_prob hidden_dropout_prob logn_attention_clip1 pad_token_id
    unpad_inputs use_memory_efficient_attention
"""
_DECODER_UNUSED = "attention_dropout max_position_embeddings pretraining_tp pad_token_id temperature"
#: Look-alikes of models with code of their own, and the keys of their config.json that may be without effect.
REMOTE = {
    "nomic-v1.5": f"{_UNUSED} {_NOMIC_UNUSED}",
    "nomic-v1.5-new-keys": f"{_UNUSED} {_NOMIC_UNUSED}",
    "gte-en-v1.5": f"{_UNUSED} {_NEW_UNUSED}",
    "arctic-embed-m-v2.0": f"{_UNUSED} {_NEW_UNUSED}",
    "gte-qwen2": f"{_UNUSED} {_DECODER_UNUSED} max_window_layers sliding_window",
    "llama-nemotron": f"{_UNUSED} {_DECODER_UNUSED}",
}
_MODES = ("cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
_DENSES = ("GELU", "SiLU", "ReLU", "Sigmoid", "LeakyReLU", "ELU", "Softplus", "Hardtanh", "Softmax", "PReLU")
#: Keys of the other files of the look-alike `switched`: file, key, another value.
FILE_FLIPS: tuple[tuple[str, str, Any], ...] = (
    *(("1_Pooling/config.json", f"pooling_mode_{mode}", True) for mode in _MODES),
    ("1_Pooling/config.json", "pooling_mode_mean_tokens", False),
    ("1_Pooling/config.json", "pooling_mode", "cls"),
    ("1_Pooling/config.json", "pooling_mode", ["mean", "max"]),
    ("1_Pooling/config.json", "include_prompt", False),
    ("1_Pooling/config.json", "word_embedding_dimension", 32),
    ("2_Dense/config.json", "bias", False),
    *(
        ("2_Dense/config.json", "activation_function", f"torch.nn.modules.activation.{one}")
        for one in _DENSES
    ),
    ("2_Dense/config.json", "activation_function", "torch.nn.modules.linear.Identity"),
    ("2_Dense/config.json", "use_residual", True),
    ("2_Dense/config.json", "out_features", 32),
    ("2_Dense/config.json", "module_input_name", "token_embeddings"),
    ("2_Dense/config.json", "module_output_name", "other"),
    ("3_LayerNorm/config.json", "eps", 0.5),
    ("4_Normalize/config.json", "module_input_name", "token_embeddings"),
    ("sentence_bert_config.json", "max_seq_length", 20),
    ("sentence_bert_config.json", "max_seq_length", None),
    ("sentence_bert_config.json", "do_lower_case", True),
    ("sentence_bert_config.json", "transformer_task", "fill-mask"),
    ("sentence_bert_config.json", "model_args", {"attn_implementation": "eager"}),
    ("sentence_bert_config.json", "config_args", {"hidden_act": "relu"}),
    ("sentence_bert_config.json", "config_kwargs", {"is_decoder": True}),
    ("sentence_bert_config.json", "tokenizer_args", {"do_lower_case": True}),
    ("sentence_bert_config.json", "processor_kwargs", {"do_lower_case": True}),
    ("sentence_bert_config.json", "processing_kwargs", {"text": {"add_special_tokens": False}}),
    ("sentence_bert_config.json", "unpad_inputs", False),
    ("config_sentence_transformers.json", "similarity_fn_name", "dot"),
    ("config_sentence_transformers.json", "truncate_dim", 16),
    ("config_sentence_transformers.json", "model_type", "SparseEncoder"),
    ("tokenizer_config.json", "do_lower_case", True),
    ("tokenizer_config.json", "strip_accents", True),
    ("tokenizer_config.json", "tokenize_chinese_chars", False),
    ("tokenizer_config.json", "model_max_length", 12),
    ("tokenizer_config.json", "tokenizer_class", "PreTrainedTokenizerFast"),
    ("tokenizer_config.json", "additional_special_tokens", ["Hello"]),
    ("tokenizer_config.json", "split_special_tokens", True),
    ("tokenizer_config.json", "add_prefix_space", True),
    ("tokenizer_config.json", "wordpieces_prefix", "@@"),
)
