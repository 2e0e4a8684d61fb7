"""Encoders with rotary positions: ModernBERT, Nomic-BERT, "new" (GTE), and what transformers alone has."""

from typing import Any

from support.look_alikes.files import extra_tensor, prefixed
from support.look_alikes.layout import ABSENT, By, Layout, Served, TokenizerFiles
from support.look_alikes.modules import CLS, IDENTITY, MEAN, NORMALIZE, dense
from support.look_alikes.published.bert import SMALL, WORDPIECE, XLM_UNIGRAM, prompts
from support.look_alikes.published.rotary import (
    LONG,
    MODERN_BPE,
    MODERNBERT,
    NEW,
    NOMIC,
    NOMIC_NATIVE,
    NOMIC_PROMPTS,
    native_gte,
)


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


_NOMIC_2026 = NOMIC | NOMIC_NATIVE
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
