"""config.json and tokenizers of Gemma and T5, as the hub has them."""

from typing import Any

from support.look_alikes.layout import ABSENT, TokenizerFiles
from support.look_alikes.published.bert import prompts
from support.look_alikes.published.decoders import DECODER

GEMMA_NAMES = {
    "add_bos_token": True,
    "add_eos_token": True,
    "bos_token": "<bos>",
    "clean_up_tokenization_spaces": False,
    "eos_token": "<eos>",
    "model_max_length": 2048,
    "pad_token": "<pad>",
    "spaces_between_special_tokens": False,
    "tokenizer_class": "GemmaTokenizer",
    "unk_token": "<unk>",
    "use_default_system_prompt": False,
}
GEMMA_BPE = TokenizerFiles(kind="gemma", template="<bos> $A <eos>", settings=GEMMA_NAMES)
GEMMA_EOS_STATED = TokenizerFiles(kind="gemma", template="<bos> $A", settings=GEMMA_NAMES)
GEMMA_EOS_WRITTEN = TokenizerFiles(
    kind="gemma",
    template="<bos> $A <eos>",
    settings=GEMMA_NAMES | {"tokenizer_class": "PreTrainedTokenizerFast"},
)
GEMMA3 = DECODER | {
    "_sliding_window_pattern": 6,
    "architectures": ["Gemma3TextModel"],
    "attention_bias": False,
    "attn_logit_softcapping": None,
    "bos_token_id": 2,
    "eos_token_id": 1,
    "final_logit_softcapping": None,
    "head_dim": 16,
    "hidden_act": ABSENT,
    "hidden_activation": "gelu_pytorch_tanh",
    "layer_types": ["sliding_attention", "sliding_attention", "full_attention"],
    "model_type": "gemma3_text",
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 16,
    "rope_local_base_freq": 10000.0,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": 24,
    "tie_word_embeddings": ABSENT,
    "torch_dtype": "float32",
    "transformers_version": "4.57.0.dev0",
    "use_cache": True,
}
EMBEDDING_GEMMA = GEMMA3 | {"use_bidirectional_attention": True}
GEMMA2 = DECODER | {
    "architectures": ["Gemma2Model"],
    "attention_bias": False,
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 16,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "model_type": "gemma2",
    "pad_token_id": 0,
    "query_pre_attn_scalar": 16,
    "rope_theta": 10000.0,
    "sliding_window": 24,
    "sliding_window_size": 4096,
    "tie_word_embeddings": ABSENT,
}
T5: dict[str, Any] = {
    "architectures": ["T5EncoderModel"],
    "d_ff": 160,
    "d_kv": 16,
    "d_model": 64,
    "decoder_start_token_id": 0,
    "dropout_rate": 0.1,
    "eos_token_id": 1,
    "feed_forward_proj": "relu",
    "gradient_checkpointing": False,
    "initializer_factor": 1.0,
    "is_encoder_decoder": True,
    "layer_norm_epsilon": 1e-06,
    "model_type": "t5",
    "n_positions": 512,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "num_layers": 2,
    "output_past": True,
    "pad_token_id": 0,
    "relative_attention_max_distance": 128,
    "relative_attention_num_buckets": 32,
    "torch_dtype": "float32",
    "use_cache": True,
}
T5_UNIGRAM = TokenizerFiles(
    kind="t5",
    template="$A </s>",
    settings={
        "eos_token": "</s>",
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 512,
        "pad_token": "<pad>",
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
    },
)
GEMMA_PROMPTS = prompts(
    query="task: search result | query: ",
    document="title: none | text: ",
    BitextMining="task: search result | query: ",
    Clustering="task: clustering | query: ",
    Classification="task: classification | query: ",
    InstructionRetrieval="task: code retrieval | query: ",
    PairClassification="task: sentence similarity | query: ",
    Reranking="task: search result | query: ",
    Retrieval="task: search result | query: ",
    STS="task: sentence similarity | query: ",
    Summarization="task: summarization | query: ",
)
