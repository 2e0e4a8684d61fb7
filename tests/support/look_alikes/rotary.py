"""Encoders with rotary positions: ModernBERT, Nomic-BERT, "new" (GTE), and what transformers alone has."""

from typing import Any

from support.look_alikes.bert_like import BERT_NAMES, SMALL, WORDPIECE, XLM_UNIGRAM, prompts
from support.look_alikes.files import extra_tensor, prefixed
from support.look_alikes.layout import ABSENT, By, Layout, Served, TokenizerFiles
from support.look_alikes.modules import CLS, IDENTITY, MEAN, NORMALIZE, dense

LONG = {"max_seq_length": 90, "do_lower_case": False}
MODERNBERT: dict[str, Any] = SMALL | {
    "architectures": ["ModernBertModel"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 2,
    "classifier_activation": "gelu",
    "classifier_bias": False,
    "classifier_dropout": 0.0,
    "classifier_pooling": "mean",
    "cls_token_id": 2,
    "decoder_bias": True,
    "deterministic_flash_attn": False,
    "embedding_dropout": 0.0,
    "eos_token_id": 3,
    "global_attn_every_n_layers": 3,
    "global_rope_theta": 160000.0,
    "gradient_checkpointing": False,
    "hidden_activation": "gelu",
    "initializer_cutoff_factor": 2.0,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-05,
    "local_attention": 16,
    "local_rope_theta": 10000.0,
    "mlp_bias": False,
    "mlp_dropout": 0.0,
    "model_type": "modernbert",
    "norm_bias": False,
    "norm_eps": 1e-05,
    "num_hidden_layers": 4,
    "pad_token_id": 1,
    "position_embedding_type": "absolute",
    "reference_compile": False,
    "repad_logits_with_grad": False,
    "sep_token_id": 3,
    "sparse_pred_ignore_index": -100,
    "sparse_prediction": False,
    "torch_dtype": "float32",
    "transformers_version": "4.48.0",
}
MODERN_BPE = TokenizerFiles(
    kind="modernbert",
    template="[CLS] $A [SEP]",
    settings=BERT_NAMES
    | {
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 8192,
        "tokenizer_class": "PreTrainedTokenizerFast",
    },
)

# The keys of nomic-ai's own code; transformers has other names for them.
NOMIC: dict[str, Any] = {
    "activation_function": "swiglu",
    "architectures": ["NomicBertModel"],
    "attn_pdrop": 0.0,
    "auto_map": {
        "AutoConfig": "nomic-ai/nomic-bert-2048--configuration_hf_nomic_bert.NomicBertConfig",
        "AutoModel": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertModel",
        "AutoModelForMaskedLM": "nomic-ai/nomic-bert-2048--modeling_hf_nomic_bert.NomicBertForPreTraining",
    },
    "bos_token_id": None,
    "causal": False,
    "dense_seq_output": True,
    "embd_pdrop": 0.0,
    "eos_token_id": None,
    "fused_bias_fc": True,
    "fused_dropout_add_ln": True,
    "initializer_range": 0.02,
    "layer_norm_epsilon": 1e-12,
    "max_trained_positions": 2048,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "model_type": "nomic_bert",
    "n_embd": 64,
    "n_head": 4,
    "n_inner": 160,
    "n_layer": 2,
    "n_positions": 8192,
    "pad_vocab_size_multiple": 64,
    "parallel_block": False,
    "parallel_block_tied_norm": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "reorder_and_upcast_attn": False,
    "resid_pdrop": 0.0,
    "rotary_emb_base": 1000,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "rotary_scaling_factor": None,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "summary_activation": None,
    "summary_first_dropout": 0.0,
    "summary_proj_to_labels": True,
    "summary_type": "cls_index",
    "summary_use_proj": True,
    "torch_dtype": "float32",
    "transformers_version": "4.37.2",
    "type_vocab_size": 2,
    "use_cache": True,
    "use_flash_attn": True,
    "use_rms_norm": False,
    "use_xentropy": True,
}
NOMIC_NATIVE: dict[str, Any] = SMALL | {
    "architectures": ["NomicBertModel"],
    "hidden_act": "silu",
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 2048,
    "model_type": "nomic_bert",
    "rope_parameters": {"rope_type": "default", "rope_theta": 1000.0},
    "type_vocab_size": 2,
}
NOMIC_PROMPTS = prompts(
    query="search_query: ",
    document="search_document: ",
    clustering="clustering: ",
    classification="classification: ",
)
NEW: dict[str, Any] = SMALL | {
    "architectures": ["NewModel"],
    "attention_probs_dropout_prob": 0.0,
    "auto_map": {
        name: f"Alibaba-NLP/new-impl--{place}"
        for name, place in {
            "AutoConfig": "configuration.NewConfig",
            "AutoModel": "modeling.NewModel",
            "AutoModelForMaskedLM": "modeling.NewForMaskedLM",
            "AutoModelForMultipleChoice": "modeling.NewForMultipleChoice",
            "AutoModelForQuestionAnswering": "modeling.NewForQuestionAnswering",
            "AutoModelForSequenceClassification": "modeling.NewForSequenceClassification",
            "AutoModelForTokenClassification": "modeling.NewForTokenClassification",
        }.items()
    },
    "classifier_dropout": None,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "layer_norm_type": "layer_norm",
    "logn_attention_clip1": False,
    "logn_attention_scale": False,
    "max_position_embeddings": 8192,
    "model_type": "new",
    "pack_qkv": True,
    "pad_token_id": 0,
    "position_embedding_type": "rope",
    "rope_scaling": {"factor": 2.0, "type": "ntk"},
    "rope_theta": 500000,
    "torch_dtype": "float32",
    "transformers_version": "4.39.1",
    "type_vocab_size": 0,
    "unpad_inputs": False,
    "use_memory_efficient_attention": False,
}


def native_gte(config: dict[str, Any]) -> dict[str, Any]:
    """The same network in transformers' own spelling.

    NTK takes the base times the factor, and then divides all frequencies by factor^(2 / head size).
    """
    scaling, theta = config["rope_scaling"], float(config["rope_theta"])
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": theta}
    if scaling is not None:
        factor = scaling["factor"]
        rope = {"rope_type": "linear", "rope_theta": theta * factor, "factor": factor ** (2 / head_dim)}
    changes = {"auto_map": ABSENT, "rope_scaling": ABSENT, "rope_theta": ABSENT, "rope_parameters": rope}
    return config | {"architectures": ["GteModel"], "model_type": "gte"} | changes


def _new(name: str, *models: str, config: dict[str, Any], **more: Any) -> Layout:
    fields: dict[str, Any] = {"modules": (CLS, NORMALIZE), "tokenizer": WORDPIECE, "settings": LONG, **more}
    return Layout(
        name=name, models=models, family="GTE", config=config, twin={"config": native_gte(config)}, **fields
    )


def _nomic(name: str, *models: str, config: dict[str, Any], **more: Any) -> Layout:
    fields: dict[str, Any] = {"modules": (MEAN,), "settings": LONG, "twin": {"config": NOMIC_NATIVE}, **more}
    return Layout(name=name, models=models, family="Nomic-BERT", config=config, tokenizer=WORDPIECE, **fields)


def _modernbert(name: str, *models: str, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": MODERNBERT, "modules": (CLS,), "settings": LONG, **more}
    return Layout(name=name, models=models, family="ModernBERT", tokenizer=MODERN_BPE, **fields)


_NOMIC_2026 = NOMIC | NOMIC_NATIVE | {"max_position_embeddings": 8192}
_MULTILINGUAL_NEW = NEW | {
    "architectures": ["NewModel", "NewForTokenClassification"],
    "id2label": {"0": "LABEL_0"},
    "label2id": {"LABEL_0": 0},
    "pad_token_id": 1,
    "rope_scaling": {"factor": 8.0, "type": "ntk"},
    "rope_theta": 20000,
    "torch_dtype": "float16",
    "type_vocab_size": 1,
}
_STELLA_NEW = NEW | {
    "auto_map": {"AutoConfig": "configuration.NewConfig", "AutoModel": "modeling.NewModel"},
    "rope_theta": 160000,
    "type_vocab_size": 2,
}
_ARCTIC_GTE = NEW | {
    "architectures": ["GteModel"],
    "auto_map": {
        "AutoConfig": "configuration_hf_alibaba_nlp_gte.GteConfig",
        "AutoModel": "modeling_hf_alibaba_nlp_gte.GteModel",
    },
    "model_type": "gte",
    "pad_token_id": 1,
    "rope_scaling": None,
    "rope_theta": 160000,
    "type_vocab_size": 1,
}
STELLA_PROMPTS = prompts(
    s2p_query=(
        "Instruct: Given a web search query, retrieve relevant passages that answer the query.\nQuery: "
    ),
    s2s_query="Instruct: Retrieve semantically similar text.\nQuery: ",
)
LAYOUTS = (
    _modernbert("gte-modernbert", "Alibaba-NLP/gte-modernbert-base"),
    _modernbert("modernbert-embed", "nomic-ai/modernbert-embed-base", modules=(MEAN, NORMALIZE)),
    _modernbert(
        "granite-english-r2",
        "ibm-granite/granite-embedding-english-r2",
        "ibm-granite/granite-embedding-small-english-r2",
        config=MODERNBERT
        | {
            "dtype": "bfloat16",
            "global_rope_theta": 80000.0,
            "layer_types": ["full_attention", "sliding_attention", "sliding_attention", "full_attention"],
            "transformers_version": "4.57.0",
        },
    ),
    _modernbert(
        "modernbert-biases", config=MODERNBERT | {"attention_bias": True, "mlp_bias": True, "norm_bias": True}
    ),
    _nomic(
        "nomic-v1",
        "nomic-ai/nomic-embed-text-v1",
        config=NOMIC | {"rotary_scaling_factor": 2, "max_trained_positions": ABSENT},
        note="remote code, mapped to ours",
    ),
    _nomic(
        "nomic-v1.5",
        "nomic-ai/nomic-embed-text-v1.5",
        config=NOMIC,
        st=NOMIC_PROMPTS,
        note="remote code, mapped to ours; keys before April 2026",
    ),
    _nomic(
        "nomic-v1.5-new-keys",
        "nomic-ai/nomic-embed-text-v1.5 (since April 2026)",
        config=_NOMIC_2026,
        st=NOMIC_PROMPTS,
        note="remote code, mapped to ours; both spellings",
    ),
    _nomic("nomic-without-remote-code", config=NOMIC_NATIVE, twin={}),
    _nomic(
        "arctic-embed-m-long",
        "Snowflake/snowflake-arctic-embed-m-long",
        config=NOMIC
        | {
            "auto_map": {
                "AutoConfig": "configuration_hf_nomic_bert.NomicBertConfig",
                "AutoModel": "modeling_hf_nomic_bert.NomicBertModel",
            },
        },
        modules=(CLS, NORMALIZE),
        st=prompts(query="Represent this sentence for searching relevant passages: "),
        note="remote code, mapped to ours",
    ),
    _new(
        "gte-en-v1.5",
        "Alibaba-NLP/gte-base-en-v1.5",
        "Alibaba-NLP/gte-large-en-v1.5",
        config=NEW,
        modules=(CLS,),
        note="remote code, mapped to ours; NTK",
    ),
    _new(
        "gte-multilingual",
        "Alibaba-NLP/gte-multilingual-base",
        config=_MULTILINGUAL_NEW,
        tokenizer=XLM_UNIGRAM,
        changes=(
            prefixed("new."),
            extra_tensor("classifier.weight", 1, 64),
            extra_tensor("classifier.bias", 1),
        ),
        note="remote code, mapped to ours; NTK; another task's head",
    ),
    _new(
        "arctic-embed-m-v2.0",
        "Snowflake/snowflake-arctic-embed-m-v2.0",
        config=_ARCTIC_GTE,
        tokenizer=XLM_UNIGRAM,
        st=prompts(query="query: "),
        note="remote code, mapped to ours",
    ),
    _new(
        "stella-400m",
        "NovaSearch/stella_en_400M_v5",
        config=_STELLA_NEW,
        modules=(MEAN, dense(96, activation=IDENTITY)),
        st=STELLA_PROMPTS,
        note="remote code, mapped to ours; NTK; a Dense layer",
    ),
    Layout(
        name="gte-without-remote-code",
        family="GTE",
        config=SMALL
        | {
            "architectures": ["GteModel"],
            "hidden_act": "gelu",
            "layer_norm_eps": 1e-12,
            "max_position_embeddings": 8192,
            "model_type": "gte",
            "pad_token_id": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 160000.0},
            "type_vocab_size": 1,
        },
        tokenizer=XLM_UNIGRAM,
        modules=(CLS, NORMALIZE),
        settings=LONG,
    ),
    Layout(
        name="eurobert",
        models=("EuroBERT/EuroBERT-210m",),
        family="EuroBERT",
        config=SMALL
        | {
            "architectures": ["EuroBertModel"],
            "bos_token_id": 1,
            "eos_token_id": 2,
            "hidden_act": "silu",
            "mask_token_id": 3,
            "model_type": "eurobert",
            "num_key_value_heads": 2,
            "pad_token_id": 0,
            "rms_norm_eps": 1e-05,
            "rope_theta": 250000,
        },
        tokenizer=TokenizerFiles(
            kind="llama3",
            template="<|begin_of_text|> $A <|end_of_text|>",
            settings={
                "bos_token": "<|begin_of_text|>",
                "eos_token": "<|end_of_text|>",
                "model_max_length": 8192,
                "pad_token": "<|end_of_text|>",
                "tokenizer_class": "PreTrainedTokenizerFast",
            },
        ),
        modules=(MEAN,),
        settings=LONG,
        expected=Served(by=By.FALLBACK),
    ),
)
