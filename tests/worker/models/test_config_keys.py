"""Which keys of the configuration files are read, ignored and refused."""

import json
from typing import Any

import pytest

from producer.errors import ModelError
from worker.models.architecture import is_known_family, read_architecture
from worker.models.keys.families import FAMILY_KEYS, check_family_keys
from worker.models.keys.modules import (
    MODULE_KEYS,
    check_module_keys,
    check_sentence_transformers_keys,
    check_transformer_settings,
)
from worker.models.keys.table import check_keys, keys

#: config.json files as they lie on the hub, each with keys that only it has.
ON_THE_HUB = {
    "LaBSE": """{"architectures": ["BertModel"], "attention_probs_dropout_prob": 0.1, "directionality":
        "bidi", "gradient_checkpointing": false, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "hidden_size": 768, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12,
        "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
        "num_hidden_layers": 12, "pad_token_id": 0, "pooler_fc_size": 768, "pooler_num_attention_heads": 12,
        "pooler_num_fc_layers": 3, "pooler_size_per_head": 128, "pooler_type": "first_token_transform",
        "position_embedding_type": "absolute", "transformers_version": "4.26.0", "type_vocab_size": 2,
        "use_cache": true, "vocab_size": 501153}""",
    "bge-base-en-v1.5": """{"_name_or_path": "/root/.cache/bge", "architectures": ["BertModel"],
        "attention_probs_dropout_prob": 0.1, "classifier_dropout": null, "gradient_checkpointing": false,
        "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768, "id2label": {"0": "LABEL_0"},
        "initializer_range": 0.02, "intermediate_size": 3072, "label2id": {"LABEL_0": 0}, "layer_norm_eps":
        1e-12, "max_position_embeddings": 512, "model_type": "bert", "num_attention_heads": 12,
        "num_hidden_layers": 12, "pad_token_id": 0, "position_embedding_type": "absolute", "torch_dtype":
        "float32", "transformers_version": "4.30.0", "type_vocab_size": 2, "use_cache": true, "vocab_size":
        30522}""",
    "bge-m3": """{"_name_or_path": "", "architectures": ["XLMRobertaModel"], "bos_token_id": 0,
        "attention_probs_dropout_prob": 0.1, "classifier_dropout": null, "eos_token_id": 2, "hidden_act":
        "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 1024, "initializer_range": 0.02,
        "intermediate_size": 4096, "layer_norm_eps": 1e-05, "max_position_embeddings": 8194, "model_type":
        "xlm-roberta", "num_attention_heads": 16, "num_hidden_layers": 24, "output_past": true,
        "pad_token_id": 1, "position_embedding_type": "absolute", "torch_dtype": "float32",
        "transformers_version": "4.33.0", "type_vocab_size": 1, "use_cache": true,
        "vocab_size": 250002}""",
    "distiluse-base-multilingual-cased-v2": """{"activation": "gelu", "architectures": ["DistilBertModel"],
        "attention_dropout": 0.1, "dim": 768, "dropout": 0.1, "hidden_dim": 3072, "initializer_range": 0.02,
        "max_position_embeddings": 512, "model_type": "distilbert", "n_heads": 12, "n_layers": 6,
        "output_past": true, "pad_token_id": 0, "qa_dropout": 0.1, "seq_classif_dropout": 0.2,
        "sinusoidal_pos_embds": false, "tie_weights_": true, "vocab_size": 119547}""",
    "all-mpnet-base-v2": """{"_name_or_path": "microsoft/mpnet-base", "architectures": ["MPNetForMaskedLM"],
        "attention_probs_dropout_prob": 0.1, "bos_token_id": 0, "eos_token_id": 2, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "initializer_range": 0.02, "intermediate_size":
        3072, "layer_norm_eps": 1e-05, "max_position_embeddings": 514, "model_type": "mpnet",
        "num_attention_heads": 12, "num_hidden_layers": 12, "pad_token_id": 1,
        "relative_attention_num_buckets": 32, "transformers_version": "4.8.2", "vocab_size": 30527}""",
    "gte-modernbert-base": """{"architectures": ["ModernBertModel"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 50281, "classifier_activation": "gelu", "classifier_bias":
        false, "classifier_dropout": 0.0, "classifier_pooling": "mean", "cls_token_id": 50281,
        "decoder_bias": true, "deterministic_flash_attn": false, "embedding_dropout": 0.0, "eos_token_id":
        50282, "global_attn_every_n_layers": 3, "global_rope_theta": 160000.0, "gradient_checkpointing":
        false, "hidden_activation": "gelu", "hidden_size": 768, "initializer_cutoff_factor": 2.0,
        "initializer_range": 0.02, "intermediate_size": 1152, "layer_norm_eps": 1e-05, "local_attention":
        128, "local_rope_theta": 10000.0, "max_position_embeddings": 8192, "mlp_bias": false, "mlp_dropout":
        0.0, "model_type": "modernbert", "norm_bias": false, "norm_eps": 1e-05, "num_attention_heads": 12,
        "num_hidden_layers": 22, "pad_token_id": 50283, "position_embedding_type": "absolute",
        "reference_compile": null, "repad_logits_with_grad": false, "sep_token_id": 50282,
        "sparse_pred_ignore_index": -100, "sparse_prediction": false, "torch_dtype": "float16",
        "transformers_version": "4.48.0", "vocab_size": 50368}""",
    "Qwen3-Embedding-0.6B": """{"architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
        "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151643, "head_dim": 128,
        "hidden_act": "silu", "hidden_size": 1024, "initializer_range": 0.02, "intermediate_size": 3072,
        "max_position_embeddings": 32768, "max_window_layers": 28, "model_type": "qwen3",
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-06,
        "rope_scaling": null, "rope_theta": 1000000, "sliding_window": null, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers_version": "4.51.3", "use_cache": true,
        "use_sliding_window": false, "vocab_size": 151669}""",
    "e5-mistral-7b-instruct": """{"_name_or_path": "mistralai/Mistral-7B-v0.1", "bos_token_id": 1,
        "architectures": ["MistralModel"], "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 4096,
        "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 32768,
        "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32, "pad_token_id": 2,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0, "sliding_window": 4096,
        "tie_word_embeddings": false, "torch_dtype": "float16", "transformers_version": "4.34.0",
        "use_cache": false, "vocab_size": 32000}""",
    "embeddinggemma-300m": """{"_sliding_window_pattern": 6, "architectures": ["Gemma3TextModel"],
        "attention_bias": false, "attention_dropout": 0.0, "attn_logit_softcapping": null, "bos_token_id": 2,
        "dtype": "float32", "eos_token_id": 1, "final_logit_softcapping": null, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 768, "initializer_range": 0.02,
        "intermediate_size": 1152, "layer_types": ["sliding_attention", "sliding_attention",
        "sliding_attention", "sliding_attention", "sliding_attention", "full_attention"],
        "max_position_embeddings": 2048, "model_type": "gemma3_text", "num_attention_heads": 3,
        "num_hidden_layers": 6, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256,
        "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000.0, "rope_scaling": null, "rope_theta": 1000000.0,
        "sliding_window": 512, "transformers_version": "4.57.0.dev0", "use_bidirectional_attention": true,
        "use_cache": true, "vocab_size": 262144}""",
    "gte-Qwen2-1.5B-instruct": """{"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
        "auto_map": {"AutoModel": "modeling_qwen.Qwen2Model", "AutoModelForCausalLM":
        "modeling_qwen.Qwen2ForCausalLM"}, "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act":
        "silu", "hidden_size": 1536, "initializer_range": 0.02, "intermediate_size": 8960, "is_causal": false,
        "max_position_embeddings": 131072, "max_window_layers": 21, "model_type": "qwen2",
        "num_attention_heads": 12, "num_hidden_layers": 28, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 131072, "tie_word_embeddings": false, "torch_dtype":
        "float32", "transformers_version": "4.41.2", "use_cache": true, "use_sliding_window": false,
        "vocab_size": 151646}""",
    "gte-multilingual-base": """{"architectures": ["NewModel", "NewForTokenClassification"],
        "attention_probs_dropout_prob": 0.0, "auto_map": {"AutoConfig":
        "Alibaba-NLP/new-impl--configuration.NewConfig", "AutoModel":
        "Alibaba-NLP/new-impl--modeling.NewModel"}, "classifier_dropout": 0.0, "hidden_act": "gelu",
        "hidden_dropout_prob": 0.1, "hidden_size": 768, "id2label": {"0": "LABEL_0"}, "initializer_range":
        0.02, "intermediate_size": 3072, "label2id": {"LABEL_0": 0}, "layer_norm_eps": 1e-12,
        "layer_norm_type": "layer_norm", "logn_attention_clip1": false, "logn_attention_scale": false,
        "max_position_embeddings": 8192, "model_type": "new", "num_attention_heads": 12, "num_hidden_layers":
        12, "pack_qkv": true, "pad_token_id": 1, "position_embedding_type": "rope", "rope_scaling": {"factor":
        8.0, "type": "ntk"}, "rope_theta": 20000, "torch_dtype": "float16", "transformers_version": "4.39.1",
        "type_vocab_size": 1, "unpad_inputs": false, "use_memory_efficient_attention": false, "vocab_size":
        250048}""",
    "nomic-embed-text-v1.5": """{"activation_function": "swiglu", "architectures": ["NomicBertModel"],
        "attn_pdrop": 0.0, "auto_map": {"AutoConfig":
        "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig", "AutoModel":
        "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel"}, "bos_token_id": null, "causal":
        false, "dense_seq_output": true, "embd_pdrop": 0.0, "eos_token_id": null, "fused_bias_fc": true,
        "fused_dropout_add_ln": true, "initializer_range": 0.02, "layer_norm_epsilon": 1e-12,
        "max_trained_positions": 2048, "mlp_fc1_bias": false, "mlp_fc2_bias": false, "model_type":
        "nomic_bert", "n_embd": 768, "n_head": 12, "n_inner": 3072, "n_layer": 12, "n_positions": 8192,
        "pad_vocab_size_multiple": 64, "parallel_block": false, "parallel_block_tied_norm": false, "prenorm":
        false, "qkv_proj_bias": false, "reorder_and_upcast_attn": false, "resid_pdrop": 0.0,
        "rotary_emb_base": 1000, "rotary_emb_fraction": 1.0, "rotary_emb_interleaved": false,
        "rotary_emb_scale_base": null, "rotary_scaling_factor": null, "scale_attn_by_inverse_layer_idx":
        false, "scale_attn_weights": true, "summary_activation": null, "summary_first_dropout": 0.0,
        "summary_proj_to_labels": true, "summary_type": "cls_index", "summary_use_proj": true, "torch_dtype":
        "float32", "transformers_version": "4.34.0", "type_vocab_size": 2, "use_cache": true,
        "use_flash_attn": true, "use_rms_norm": false, "use_xentropy": true, "vocab_size": 30528}""",
    "llama-nemotron-embed-1b-v2": """{"architectures": ["LlamaBidirectionalModel"], "attention_bias": false,
        "attention_dropout": 0.0, "auto_map": {"AutoConfig":
        "llama_bidirectional_model.LlamaBidirectionalConfig", "AutoModel":
        "llama_bidirectional_model.LlamaBidirectionalModel"}, "bos_token_id": 128000, "eos_token_id": 128001,
        "head_dim": 64, "hidden_act": "silu", "hidden_size": 2048, "initializer_range": 0.02,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "mlp_bias": false, "model_type":
        "llama_bidirec", "num_attention_heads": 32, "num_hidden_layers": 16, "num_key_value_heads": 8,
        "pooling": "avg", "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_scaling": {"factor": 32.0,
        "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192,
        "rope_type": "llama3"}, "rope_theta": 500000.0, "temperature": 0.02, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers_version": "4.44.2", "use_cache": true, "vocab_size":
        128256}""",
    "a SmolLM": """{"architectures": ["LlamaModel"], "attention_bias": false, "attention_dropout": 0.0,
        "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 576, "is_llama_config":
        true, "initializer_range": 0.04, "intermediate_size": 1536, "max_position_embeddings": 8192,
        "mlp_bias": false, "model_type": "llama", "num_attention_heads": 9, "num_hidden_layers": 30,
        "num_key_value_heads": 3, "pad_token_id": 2, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_interleaved": false, "rope_scaling": null, "rope_theta": 100000, "tie_word_embeddings": true,
        "torch_dtype": "bfloat16", "transformers.js_config": {"dtype": "q4"}, "vocab_size": 49152}""",
}
LLAMA = json.loads(ON_THE_HUB["a SmolLM"])
BERT = json.loads(ON_THE_HUB["LaBSE"])


def test_every_family_of_our_own_has_a_table() -> None:
    """And no table is of a family that we do not implement."""
    with pytest.raises(ModelError) as refused:
        read_architecture({"model_type": "none"})
    listed = str(refused.value).partition("supported are ")[2].split(", ")
    assert sorted(listed) == sorted(FAMILY_KEYS)
    assert all(is_known_family({"model_type": kind}) for kind in FAMILY_KEYS)


@pytest.mark.parametrize("kind", sorted({*FAMILY_KEYS}))
def test_a_key_is_of_one_kind(kind: str) -> None:
    """Read, harmless or bound to values: what stands in two of them would be a mistake of ours."""
    table = FAMILY_KEYS[kind]
    assert not table.read & table.harmless
    assert not (table.read | table.harmless) & table.only.keys()


@pytest.mark.parametrize("name", list(ON_THE_HUB))
def test_configs_of_real_models_are_read(name: str) -> None:
    """With all their bookkeeping."""
    read_architecture(json.loads(ON_THE_HUB[name]))


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", [kind for kind in FAMILY_KEYS if kind != "llama_bidirec"])
def test_the_tables_know_every_key_of_the_librarys_own_configs(kind: str) -> None:
    """What transformers saves for a family's defaults is read, harmless or at a value that we compute."""
    import transformers

    config = json.loads(transformers.AutoConfig.for_model(kind).to_json_string(use_diff=False))
    check_family_keys(config, kind)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (LLAMA | {"residual_multiplier": 0.22}, "the key 'residual_multiplier'.*llama network.*delete it"),
        (BERT | {"alibi_starting_size": 512}, "the key 'alibi_starting_size'"),
        (BERT | {"is_decoder": True}, "is_decoder True; a decoder of this family"),
        (BERT | {"pruned_heads": {"0": [1]}}, r"pruned_heads \{'0': \[1\]\}"),
        (BERT | {"quantization_config": {"bits": 4}}, "serve the unquantised model"),
        (LLAMA | {"layer_types": ["full_attention", "sliding_attention"]}, "only 'full_attention'"),
        (LLAMA | {"sliding_window": 4096}, "sliding_window 4096; our llama network does not support it"),
        (LLAMA | {"rope_scaling": {"rope_type": "default", "shift": 2}}, "'shift'.*rotary positions"),
        (LLAMA | {"rope_scaling": [1]}, "an object is expected"),
        (LLAMA | {"rope_parameters": {"full_attention": {"rope_theta": 1e4}}}, "'full_attention'"),
        (
            LLAMA | {"rope_scaling": {"rope_theta": 1e4}, "rope_parameters": {"rope_theta": 1e5}},
            "that differ",
        ),
    ],
)
def test_a_key_that_would_be_ignored_fails_loading(config: dict[str, Any], said: str) -> None:
    """By its name, with its value and what to do."""
    with pytest.raises(ModelError, match=said):
        read_architecture(config)


def test_null_and_lists_of_allowed_values_pass() -> None:
    """null stands for the default, and of a list every element counts."""
    table = keys("size", harmless="seed", only={"layers": ("plain",), "mode": ()})
    config = {"size": 3, "seed": 1, "layers": ["plain", "plain"], "mode": None}
    check_keys(config, table, file="a.json", reader="reader")


def test_a_later_table_replaces_what_an_earlier_one_said() -> None:
    """So a family may read what its base refuses."""
    base = keys(harmless="a", only={"b": (1,), "c": ()})
    assert base | keys("b", only={"a": (2,)}) == keys("b", only={"c": (), "a": (2,)})


@pytest.mark.parametrize(
    ("kind", "config", "said"),
    [
        ("Pooling", {"pooling_mode": "mean", "layer": 3}, "'layer'.*Pooling module"),
        ("Dense", {"in_features": 8, "use_residual": True}, "use_residual True"),
        ("Dense", {"module_input_name": "token_embeddings"}, "only 'sentence_embedding'"),
        ("Normalize", {"module_output_name": "other"}, "'other'"),
        ("LayerNorm", {"dimension": 8, "eps": 1e-3}, "'eps'"),
    ],
)
def test_a_module_says_nothing_that_is_ignored(kind: str, config: dict[str, Any], said: str) -> None:
    """As for config.json."""
    with pytest.raises(ModelError, match=said):
        check_module_keys(config, kind, file="1/config.json")


def test_every_module_as_saved_is_accepted() -> None:
    """In the spellings of sentence-transformers 2 to 6."""
    legacy = {"word_embedding_dimension": 8, "pooling_mode_cls_token": True, "pooling_mode_lasttoken": False}
    check_module_keys(legacy, "Pooling", file="")
    check_module_keys(
        {"embedding_dimension": 8, "pooling_mode": "cls", "include_prompt": True}, "Pooling", file=""
    )
    check_module_keys({"module_input_name": "sentence_embedding"}, "Normalize", file="")
    assert set(MODULE_KEYS) == {"Pooling", "Dense", "LayerNorm", "Dropout", "Normalize"}


TEXT = {"method": "forward", "method_output_name": "last_hidden_state"}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_seq_length": 512, "do_lower_case": False},
        {"max_seq_length": 8192, "model_args": {"trust_remote_code": True, "torch_dtype": "float16"}},
        {"tokenizer_args": {"padding_side": "left"}, "config_args": {"hidden_act": "gelu"}},
        {"max_seq_length": 64, "processor_kwargs": {"model_max_length": 64}},
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": TEXT, "image": {"method": "get_image_features"}},
            "module_output_name": "token_embeddings",
            "unpad_inputs": None,
            "processing_kwargs": {"image": {"do_resize": True}},
        },
    ],
)
def test_settings_of_a_transformer_that_change_nothing_pass(settings: dict[str, Any]) -> None:
    """Whatever the version that wrote them."""
    check_transformer_settings(settings, network={"hidden_act": "gelu"})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"transformer_task": "fill-mask"}, "transformer_task 'fill-mask'.*'feature-extraction'"),
        ({"module_output_name": "sentence_embedding"}, "only 'token_embeddings'"),
        ({"modality_config": {"image": TEXT}}, "computes texts as None"),
        ({"modality_config": {"text": TEXT | {"method_output_name": "pooler_output"}}}, "pooler_output"),
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "'text'.*tokenization"),
        ({"query_length": 32}, "query_length 32"),
        ({"query_expansion": {"length": 32}}, "query_expansion"),
        ({"tokenizer_name_or_path": "other"}, "put that tokenizer's files into"),
        ({"tokenizer_args": {"add_eos_token": True}}, "'add_eos_token'"),
        ({"max_seq_length": 64, "tokenizer_args": {"model_max_length": 32}}, "model_max_length 32"),
        ({"config_args": {"hidden_act": "relu"}}, "hidden_act 'relu'"),
        ({"config_kwargs": {"is_causal": False}}, "'is_causal'"),
        ({"model_kwargs": {"subfolder": "onnx"}}, "'subfolder'"),
        ({"lower": True}, "the key 'lower'"),
    ],
)
def test_settings_of_a_transformer_that_we_do_not_follow_fail(settings: dict[str, Any], said: str) -> None:
    """Even inside the arguments that sentence-transformers hands on to its libraries."""
    with pytest.raises(ModelError, match=said):
        check_transformer_settings(settings, network={"hidden_act": "gelu"})


def test_a_models_own_settings_are_checked_too() -> None:
    """A saved truncation would change the length of every vector."""
    check_sentence_transformers_keys(
        {"__version__": {}, "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "cosine"}
        | {"model_type": "SentenceTransformer"}
    )
    with pytest.raises(ModelError, match="truncate_dim 256; vectors are returned whole"):
        check_sentence_transformers_keys({"truncate_dim": 256})
    with pytest.raises(ModelError, match="the key 'rescale'"):
        check_sentence_transformers_keys({"rescale": True})
