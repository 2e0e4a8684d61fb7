"""config.json and tokenizers of decoders that embed, as the hub has them."""

from typing import Any

from support.look_alikes.layout import TokenizerFiles
from support.look_alikes.published.bert import prompts

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
GTE_QWEN_NAMES = QWEN_NAMES | {
    "add_eos_token": True,
    "auto_map": {
        "AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", "tokenization_qwen.Qwen2TokenizerFast"]
    },
    "eos_token": "<|endoftext|>",
    "model_max_length": 32768,
}
GTE_QWEN_BPE = TokenizerFiles(kind="qwen", template=None, settings=GTE_QWEN_NAMES)
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
