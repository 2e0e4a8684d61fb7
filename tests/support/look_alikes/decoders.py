"""Decoders that embed: Qwen3, Qwen2, Llama, Mistral."""

from dataclasses import replace
from typing import Any

from support.look_alikes.files import sharded, stored_as
from support.look_alikes.layout import Layout, Refused, TokenizerFiles
from support.look_alikes.modules import (
    IDENTITY,
    LAST,
    MEAN,
    NORMALIZE,
    NORMALIZED_LAST,
    NORMALIZED_MEAN,
    dense,
    pooling,
)
from support.look_alikes.published.bert import prompts
from support.look_alikes.published.decoders import (
    GTE_QWEN_BPE,
    GTE_QWEN_NAMES,
    LLAMA,
    LLAMA3_ROPE,
    LLAMA_BIDIRECTIONAL,
    LLAMA_BOTH_WAYS,
    LLAMA_BPE,
    LONG,
    MISTRAL,
    MISTRAL_BPE,
    MISTRAL_EOS_STATED,
    MISTRAL_EOS_WRITTEN,
    MISTRAL_PROMPTS,
    QWEN2,
    QWEN2_REMOTE,
    QWEN3,
    QWEN3_PROMPTS,
    QWEN_BPE,
    QWEN_PLAIN,
    WEB_SEARCH,
)
from support.look_alikes.rotary import STELLA_PROMPTS


def _layout(family: str, config: dict[str, Any], tokenizer: TokenizerFiles) -> Any:
    def make(name: str, *models: str, **more: Any) -> Layout:
        fields: dict[str, Any] = {
            "config": config,
            "tokenizer": tokenizer,
            "modules": NORMALIZED_LAST,
            "settings": LONG,
            **more,
        }
        return Layout(name=name, models=models, family=family, **fields)

    return make


_qwen3 = _layout("Qwen3", QWEN3, QWEN_BPE)
_qwen2 = _layout("Qwen2", QWEN2, QWEN_BPE)
_llama = _layout("Llama", LLAMA, LLAMA_BPE)
_mistral = _layout("Mistral", MISTRAL, MISTRAL_BPE)
_QWEN2_TWIN = {"config": QWEN2 | {"is_causal": False}, "tokenizer": QWEN_BPE}

QWENS = (
    _qwen3(
        "qwen3-embedding",
        "Qwen/Qwen3-Embedding-0.6B",
        "Qwen/Qwen3-Embedding-4B",
        "Qwen/Qwen3-Embedding-8B",
        modules=(pooling("lasttoken", include_prompt=True), NORMALIZE),
        settings=None,
        st=QWEN3_PROMPTS,
        changes=(stored_as("bfloat16"),),
    ),
    _qwen3(
        "qwen3-causal-lm-checkpoint",
        "microsoft/harrier-oss-v1-0.6b",
        "codefuse-ai/F2LLM-0.6B",
        changes=(sharded,),
        note="weights of a causal language model, in two files",
    ),
    _qwen3(
        "qwen3-both-ways",
        config=QWEN3 | {"is_causal": False, "architectures": ["Qwen3Model"]},
        modules=NORMALIZED_MEAN,
        note="`is_causal: false`",
    ),
    _qwen3(
        "qwen3-attention-bias",
        config=QWEN3 | {"attention_bias": True},
    ),
    _qwen3(
        "qwen3-sliding-window",
        config=QWEN3 | {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    ),
    _qwen3(
        "qwen3-yarn",
        config=QWEN3
        | {"rope_scaling": {"factor": 4.0, "original_max_position_embeddings": 64, "rope_type": "yarn"}},
        expected=Refused(because="YaRN", sentence="yarn"),
    ),
    _qwen3(
        "qwen3-no-special-tokens",
        tokenizer=QWEN_PLAIN,
        note="no special tokens: an empty text fails alone",
    ),
    _qwen2(
        "kalm-mini",
        "HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v1",
        "HIT-TMG/KaLM-embedding-multilingual-mini-instruct-v2",
        "KaLM-Embedding/KaLM-embedding-multilingual-mini-instruct-v2.5",
        modules=NORMALIZED_MEAN,
    ),
    _qwen2(
        "gte-qwen2",
        "Alibaba-NLP/gte-Qwen2-1.5B-instruct",
        "Alibaba-NLP/gte-Qwen2-7B-instruct",
        config=QWEN2_REMOTE,
        tokenizer=GTE_QWEN_BPE,
        st=prompts(query=WEB_SEARCH),
        twin=_QWEN2_TWIN,
        changes=(sharded,),
        note="remote code, mapped to ours; appends `<|endoftext|>`",
    ),
    _qwen2(
        "gte-qwen2-saved-with-5",
        config=QWEN2_REMOTE | {"transformers_version": "5.2.0"},
        tokenizer=replace(GTE_QWEN_BPE, settings={**GTE_QWEN_NAMES, "backend": "tokenizers"}),
        twin=_QWEN2_TWIN,
        note="the token of the model's own code, whichever version of transformers is installed",
    ),
    _qwen2(
        "stella-1.5b",
        "NovaSearch/stella_en_1.5B_v5",
        config=QWEN2_REMOTE,
        tokenizer=GTE_QWEN_BPE,
        modules=(MEAN, dense(96, activation=IDENTITY)),
        st=STELLA_PROMPTS,
        twin=_QWEN2_TWIN,
        note="remote code, mapped to ours; a Dense layer",
    ),
    _qwen2(
        "inf-retriever",
        "infly/inf-retriever-v1",
        "infly/inf-retriever-v1-1.5b",
        config=QWEN2_REMOTE,
        tokenizer=GTE_QWEN_BPE,
        st=prompts(query=WEB_SEARCH),
        twin=_QWEN2_TWIN,
        note="remote code, mapped to ours",
    ),
    _qwen2("qwen2-causal", changes=(sharded,)),
    _qwen2("qwen2-both-ways", config=QWEN2 | {"is_causal": False}, modules=NORMALIZED_MEAN),
)
LLAMAS = (
    _llama("llama-causal", note="rotary positions stretched as Llama 3 does"),
    _llama("llama-both-ways", config=LLAMA_BOTH_WAYS, modules=NORMALIZED_MEAN, note="`is_causal: false`"),
    _llama(
        "llama-nemotron",
        "nvidia/llama-nemotron-embed-1b-v2",
        "nvidia/llama-3.2-nv-embedqa-1b-v2",
        config=LLAMA_BIDIRECTIONAL,
        modules=NORMALIZED_MEAN,
        st=prompts(query="query: ", passage="passage: "),
        twin={"config": LLAMA_BOTH_WAYS},
        note="remote code, mapped to ours",
    ),
    _llama(
        "llama-embed-nemotron-8b",
        "nvidia/llama-embed-nemotron-8b",
        config=LLAMA_BIDIRECTIONAL | {"rope_scaling": LLAMA3_ROPE | {"factor": 8.0}},
        modules=NORMALIZED_MEAN,
        twin={"config": LLAMA_BOTH_WAYS | {"rope_scaling": LLAMA3_ROPE | {"factor": 8.0}}},
        note="remote code, mapped to ours",
    ),
    _llama(
        "llama-bidirectional-plain",
        config=LLAMA_BIDIRECTIONAL | {"pooling": "last"},
        modules=None,
        settings=None,
        twin={"config": LLAMA_BOTH_WAYS, "modules": (LAST,)},
        note="no modules.json: config.json says how to pool",
    ),
    _llama("llama-biases", config=LLAMA | {"attention_bias": True, "mlp_bias": True}),
)
MISTRALS = (
    _mistral(
        "e5-mistral",
        "intfloat/e5-mistral-7b-instruct",
        tokenizer=MISTRAL_EOS_STATED,
        st=MISTRAL_PROMPTS,
        twin={"tokenizer": MISTRAL_EOS_WRITTEN},
        changes=(sharded,),
        note="tokenizer_config.json alone appends `</s>`",
    ),
    _mistral(
        "mistral-eos-written",
        "Linq-AI-Research/Linq-Embed-Mistral",
        "Salesforce/SFR-Embedding-Mistral",
        "Salesforce/SFR-Embedding-2_R",
        "BAAI/bge-en-icl",
        st=prompts(query=WEB_SEARCH),
        twin={"tokenizer": MISTRAL_EOS_WRITTEN},
    ),
    _mistral(
        "gritlm",
        "parasail-ai/GritLM-7B-vllm",
        config=MISTRAL | {"is_causal": False, "sliding_window": None},
        tokenizer=MISTRAL_EOS_WRITTEN,
        modules=NORMALIZED_MEAN,
        note="`is_causal: false`",
    ),
    _mistral(
        "mistral-both-ways-window",
        config=MISTRAL | {"is_causal": False},
        tokenizer=MISTRAL_EOS_WRITTEN,
        modules=NORMALIZED_MEAN,
        note="`is_causal: false` with a sliding window",
    ),
    _mistral("mistral-no-window", config=MISTRAL | {"sliding_window": None}, tokenizer=MISTRAL_EOS_WRITTEN),
)
LAYOUTS = (*QWENS, *LLAMAS, *MISTRALS)
