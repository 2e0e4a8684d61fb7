"""The keys of config.json that each family of our own reads, ignores and refuses.

A key is `read` if our code follows it, `harmless` if it changes no token vector at inference in the modeling
file of transformers, and `only` if it would change one. A new family is one more entry of `FAMILY_KEYS`.
"""

from collections.abc import Mapping
from typing import Any

from producer.errors import ModelError
from worker.models.keys.table import KeyTable, check_keys, keys

# What transformers, sentence-transformers and others write into the config.json of any family.
_BOOKKEEPING = keys(
    "model_type auto_map architectures matryoshka_dimensions",
    harmless="""
        _name_or_path name_or_path _commit_hash transformers_version transformers.js_config torch_dtype dtype
        torchscript _attn_implementation _attn_implementation_autoset _attn_implementation_internal
        attn_implementation _experts_implementation_internal unsloth_version unsloth_fixed
        use_cache output_past output_attentions output_hidden_states return_dict chunk_size_feed_forward
        gradient_checkpointing initializer_range initializer_factor tokenizer_class prefix model_max_length
        tie_word_embeddings tie_encoder_decoder tie_last_hidden_states tie_weights_ add_pooling_layer adapters
        cross_attention_hidden_size pad_token_id bos_token_id eos_token_id cls_token_id sep_token_id
        mask_token_id unk_token_id decoder_start_token_id use_bfloat16 tf_legacy_loss custom_pipelines
        is_matryoshka vocab_size_or_config_json_file use_return_dict xla_device
    """,
    only={
        "is_encoder_decoder": (False,),
        "add_cross_attention": (False,),
        "pruned_heads": ({},),
        "per_layer_config": ({},),
        "quantization_config": (),
        "compression_config": (),
        "quantization": (),
    },
)
_TASKS = keys(
    harmless="""
        num_labels _num_labels id2label label2id problem_type finetuning_task task_specific_params
        classifier_dropout sbert_ce_default_activation_function sentence_transformers
    """
)
_GENERATION = keys(
    harmless="""
        max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature
        top_k top_p typical_p repetition_penalty length_penalty no_repeat_ngram_size
        encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores return_dict_in_generate
        forced_bos_token_id forced_eos_token_id remove_invalid_values exponential_decay_length_penalty
        suppress_tokens begin_suppress_tokens max_new_tokens
    """
)
_ANY = _BOOKKEEPING | _TASKS | _GENERATION
_ENCODER = _ANY | keys(
    "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size max_position_embeddings",
    harmless="hidden_dropout_prob attention_probs_dropout_prob hidden_dropout attention_dropout",
    only={"is_decoder": (False,), "is_causal": (False,), "use_bidirectional_attention": (True,)},
)
_ROTARY = keys("rope_parameters rope_scaling rope_theta partial_rotary_factor")
_BERT = _ENCODER | keys(
    "hidden_act type_vocab_size layer_norm_eps",
    # The original TensorFlow configs describe a pooler, which is not used; the others are TinyBERT's.
    harmless="""
        embedding_size pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head
        pooler_type cell emb_size pre_trained structure training
    """,
    only={"position_embedding_type": ("absolute",), "directionality": ("bidi",)},
)
_ROBERTA = _BERT | keys("pad_token_id")
_ROTARY_ENCODER = _ENCODER | _ROTARY | keys("hidden_act type_vocab_size layer_norm_eps")
_DECODER = (
    _ANY
    | _ROTARY
    | keys(
        """
        vocab_size hidden_size num_hidden_layers num_attention_heads num_key_value_heads head_dim
        intermediate_size max_position_embeddings hidden_act rms_norm_eps is_causal
        """,
        harmless="attention_dropout is_decoder",
        only={
            "attention_bias": (False,),
            "mlp_bias": (False,),
            "use_bidirectional_attention": (False,),
            "layer_types": ("full_attention",),
        },
    )
)
_LLAMA = _DECODER | keys(
    "attention_bias mlp_bias",
    harmless="pretraining_tp is_llama_config",
    only={"rope_interleaved": (False,), "sliding_window": ()},
)
_GEMMA = _DECODER | keys(
    "attention_bias hidden_activation query_pre_attn_scalar sliding_window layer_types",
    harmless="hidden_act final_logit_softcapping cache_implementation",
)
_QWEN = _DECODER | keys(
    "use_sliding_window sliding_window max_window_layers layer_types", only={"use_mrope": (False,)}
)

#: model_type -> what the keys of its config.json mean
FAMILY_KEYS: dict[str, KeyTable] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": _BERT | keys("relative_attention_num_buckets", harmless="type_vocab_size"),
    "distilbert": _ANY
    | keys(
        "vocab_size dim n_layers n_heads hidden_dim activation max_position_embeddings",
        # The sinusoids of `sinusoidal_pos_embds` are stored in the position table.
        harmless="dropout attention_dropout qa_dropout seq_classif_dropout sinusoidal_pos_embds",
        only={"is_decoder": (False,), "is_causal": (False,), "use_bidirectional_attention": (True,)},
    ),
    "nomic_bert": _ROTARY_ENCODER
    | keys(
        "head_dim qkv_proj_bias mlp_fc1_bias mlp_fc2_bias rotary_scaling_factor max_trained_positions",
        # Of the code that nomic's models bring along, which computes the same with and without them.
        harmless="""
            attn_pdrop embd_pdrop resid_pdrop dense_seq_output fused_bias_fc fused_dropout_add_ln
            use_flash_attn use_xentropy pad_vocab_size_multiple parallel_block_tied_norm
            reorder_and_upcast_attn scale_attn_by_inverse_layer_idx scale_attn_weights summary_activation
            summary_first_dropout summary_proj_to_labels summary_type summary_use_proj
        """,
    ),
    "gte": _ROTARY_ENCODER,
    "modernbert": _ENCODER
    | keys(
        """
        hidden_activation norm_eps norm_bias attention_bias mlp_bias local_attention layer_types
        global_attn_every_n_layers global_rope_theta local_rope_theta rope_parameters
        """,
        harmless="""
            layer_norm_eps position_embedding_type embedding_dropout mlp_dropout attention_dropout
            initializer_cutoff_factor decoder_bias classifier_pooling classifier_bias classifier_activation
            deterministic_flash_attn reference_compile repad_logits_with_grad sparse_prediction
            sparse_pred_ignore_index
        """,
        # transformers applies a scaling here to both kinds of layers, and a window over `local_attention`.
        only={"rope_scaling": ({},), "rope_theta": (), "partial_rotary_factor": (1.0,), "sliding_window": ()},
    ),
    "qwen2": _QWEN | keys(harmless="attention_bias"),
    "qwen3": _QWEN | keys("attention_bias"),
    "llama": _LLAMA,
    "llama_bidirec": _LLAMA | keys("pooling", only={"is_causal": (False,)}),
    "mistral": _DECODER | keys("sliding_window", only={"layer_types": ()}),
    "gemma2": _GEMMA | keys("attn_logit_softcapping", harmless="sliding_window_size"),
    "gemma3_text": _GEMMA
    | keys(
        "sliding_window_pattern rope_local_base_freq use_bidirectional_attention",
        harmless="_sliding_window_pattern",
        only={"attn_logit_softcapping": ()},
    ),
}
# Inside rope_parameters or rope_scaling; the numbers of a type that is not computed are not read.
_ROPE_KEYS = keys(
    """
    rope_type type rope_theta partial_rotary_factor factor low_freq_factor high_freq_factor
    original_max_position_embeddings
    """,
    harmless="""
        attention_factor beta_fast beta_slow mscale mscale_all_dim short_factor long_factor truncate finetuned
        mrope_section mrope_interleaved
    """,
)
# Families whose rope_parameters are stated by kind of layer.
_ROPES_BY_LAYER = {"modernbert", "gemma3_text"}
_LAYER_KINDS = keys("full_attention sliding_attention")


def check_family_keys(config: Mapping[str, Any], kind: str) -> None:
    """Raise ModelError if config.json has a key that our network of family `kind` would ignore wrongly."""
    reader = f"{kind} network"
    check_keys(config, FAMILY_KEYS[kind], file="config.json", reader=reader)
    stated = {name: config[name] for name in ("rope_parameters", "rope_scaling") if config.get(name)}
    if len(stated) > 1 and stated["rope_parameters"] != stated["rope_scaling"]:
        raise ModelError("config.json has rope_parameters and rope_scaling that differ; delete one of them")
    for name, parameters in stated.items():
        if not isinstance(parameters, dict):
            raise ModelError(f"config.json has rotary positions {parameters!r:.60}; an object is expected")
        parts = [parameters]
        if kind in _ROPES_BY_LAYER and name == "rope_parameters":
            check_keys(parameters, _LAYER_KINDS, file="config.json", reader=reader)
            parts = [part for part in parameters.values() if part]
        for part in parts:
            check_keys(part, _ROPE_KEYS, file="config.json", reader=f"rotary positions of a {kind} network")
