"""Decoders that embed: Qwen3, Qwen2, Llama, Mistral."""

from typing import Any

from support.look_alikes.bert_like import prompts
from support.look_alikes.files import sharded, stored_as
from support.look_alikes.layout import Layout, Refused, TokenizerFiles
from support.look_alikes.modules import IDENTITY, LAST, MEAN, NORMALIZE, dense, pooling
from support.look_alikes.rotary import STELLA_PROMPTS

DECODER: dict[str, Any] = {
    "attention_dropout": 0.0,
    "hidden_act": "silu",
    "hidden_size": 64,
    "initializer_range": 0.02,
    "intermediate_size": 160,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.51.2",
    "use_cache": False,
}
QWEN3 = DECODER | {
    "architectures": ["Qwen3ForCausalLM"],
    "attention_bias": False,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "head_dim": 32,
    "max_window_layers": 28,
    "model_type": "qwen3",
    "rope_scaling": None,
    "rope_theta": 1000000,
    "sliding_window": None,
    "tie_word_embeddings": True,
    "use_cache": True,
    "use_sliding_window": False,
}
QWEN2 = DECODER | {
    "architectures": ["Qwen2ForCausalLM"],
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "rope_theta": 1000000.0,
    "sliding_window": 131072,
    "use_sliding_window": False,
}
QWEN2_REMOTE = QWEN2 | {
    "auto_map": {
        "AutoModel": "modeling_qwen.Qwen2Model",
        "AutoModelForCausalLM": "modeling_qwen.Qwen2ForCausalLM",
        "AutoModelForSequenceClassification": "modeling_qwen.Qwen2ForSequenceClassification",
    },
    "is_causal": False,
}
LLAMA3_ROPE = {
    "factor": 32.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 64,
    "rope_type": "llama3",
}
LLAMA = DECODER | {
    "architectures": ["LlamaModel"],
    "attention_bias": False,
    "bos_token_id": 128000,
    "eos_token_id": 128001,
    "head_dim": 16,
    "mlp_bias": False,
    "model_type": "llama",
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": LLAMA3_ROPE,
    "rope_theta": 500000.0,
    "tie_word_embeddings": True,
}
LLAMA_BIDIRECTIONAL = LLAMA | {
    "architectures": ["LlamaBidirectionalModel"],
    "auto_map": {
        "AutoConfig": "llama_bidirectional_model.LlamaBidirectionalConfig",
        "AutoModel": "llama_bidirectional_model.LlamaBidirectionalModel",
    },
    "model_type": "llama_bidirec",
    "pad_token_id": 128001,
    "pooling": "avg",
    "temperature": 0.02,
}
LLAMA_BOTH_WAYS = LLAMA | {"is_causal": False}
MISTRAL = DECODER | {
    "architectures": ["MistralModel"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "model_type": "mistral",
    "pad_token_id": 2,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "sliding_window": 32,
    "torch_dtype": "float16",
}

QWEN_NAMES: dict[str, Any] = {
    "add_bos_token": False,
    "add_prefix_space": False,
    "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    "bos_token": None,
    "clean_up_tokenization_spaces": False,
    "eos_token": "<|im_end|>",
    "errors": "replace",
    "model_max_length": 131072,
    "pad_token": "<|endoftext|>",
    "split_special_tokens": False,
    "tokenizer_class": "Qwen2Tokenizer",
    "unk_token": None,
}
QWEN_BPE = TokenizerFiles(kind="qwen", template="$A <|endoftext|>", settings=QWEN_NAMES)
QWEN_PLAIN = TokenizerFiles(kind="qwen", template=None, settings=QWEN_NAMES)
GTE_QWEN_BPE = TokenizerFiles(
    kind="qwen",
    template=None,
    settings=QWEN_NAMES
    | {
        "add_eos_token": True,
        "auto_map": {
            "AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]
        },
        "eos_token": "<|endoftext|>",
        "model_max_length": 32768,
    },
)
LLAMA_NAMES = {
    "bos_token": "<|begin_of_text|>",
    "clean_up_tokenization_spaces": True,
    "eos_token": "<|end_of_text|>",
    "model_input_names": ["input_ids", "attention_mask"],
    "model_max_length": 131072,
    "pad_token": "<|end_of_text|>",
    "tokenizer_class": "PreTrainedTokenizerFast",
}
LLAMA_BPE = TokenizerFiles(kind="llama3", template="<|begin_of_text|> $A", settings=LLAMA_NAMES)
MISTRAL_NAMES = {
    "add_bos_token": True,
    "add_eos_token": True,
    "bos_token": "<s>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "</s>",
    "legacy": True,
    "model_max_length": 1000000000000000019884624838656,
    "pad_token": "</s>",
    "sp_model_kwargs": {},
    "tokenizer_class": "LlamaTokenizer",
    "unk_token": "<unk>",
    "use_default_system_prompt": False,
}
PLAIN_CLASS = {"tokenizer_class": "PreTrainedTokenizerFast"}
# e5-mistral's tokenizer.json does not have the token that tokenizer_config.json asks for.
MISTRAL_EOS_STATED = TokenizerFiles(kind="llama2", template="<s> $A", settings=MISTRAL_NAMES)
MISTRAL_EOS_WRITTEN = TokenizerFiles(
    kind="llama2", template="<s> $A </s>", settings=MISTRAL_NAMES | PLAIN_CLASS
)
MISTRAL_BPE = TokenizerFiles(kind="llama2", template="<s> $A </s>", settings=MISTRAL_NAMES)
NORMALIZED_LAST, NORMALIZED_MEAN = (LAST, NORMALIZE), (MEAN, NORMALIZE)
LONG = {"max_seq_length": 90, "do_lower_case": False}
WEB_SEARCH = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery: "
QWEN3_PROMPTS = prompts(query=WEB_SEARCH.rstrip(" "), document="")
MISTRAL_PROMPTS = prompts(
    web_search_query=WEB_SEARCH,
    sts_query="Instruct: Retrieve semantically similar text.\nQuery: ",
    summarization_query=(
        "Instruct: Given a news summary, retrieve other semantically similar summaries\nQuery: "
    ),
    bitext_query="Instruct: Retrieve parallel sentences.\nQuery: ",
)


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
