"""Gemma, T5 and the families that only transformers implements."""

from typing import Any

from support.look_alikes.bert_like import (
    BERT,
    LONG,
    ROBERTA,
    ROBERTA_BPE,
    SHORT,
    WORDPIECE,
    XLM_UNIGRAM,
    prompts,
)
from support.look_alikes.decoders import (
    DECODER,
    LLAMA_BPE,
    NORMALIZED_LAST,
    NORMALIZED_MEAN,
    QWEN_NAMES,
    WEB_SEARCH,
)
from support.look_alikes.layout import ABSENT, By, Layout, Served, TokenizerFiles
from support.look_alikes.modules import IDENTITY, MEAN, NORMALIZE, dense, pooling

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
_BY_FALLBACK = Served(by=By.FALLBACK)
_NO_ABSOLUTE = {"position_embedding_type": ABSENT}


def _fallback(name: str, *models: str, family: str, config: dict[str, Any], **more: Any) -> Layout:
    fields: dict[str, Any] = {
        "tokenizer": WORDPIECE,
        "modules": NORMALIZED_MEAN,
        "settings": SHORT,
        "expected": _BY_FALLBACK,
        **more,
    }
    return Layout(name=name, models=models, family=family, config=config, **fields)


def _bert_sized(kind: str, architecture: str, **more: Any) -> dict[str, Any]:
    return BERT | {"architectures": [architecture], "model_type": kind} | _NO_ABSOLUTE | more


GEMMAS = (
    Layout(
        name="embeddinggemma",
        models=("google/embeddinggemma-300m",),
        family="Gemma 3",
        config=EMBEDDING_GEMMA,
        tokenizer=GEMMA_BPE,
        modules=(
            pooling("mean", include_prompt=True),
            dense(160, bias=False, activation=IDENTITY),
            dense(64, 160, bias=False, activation=IDENTITY),
            NORMALIZE,
        ),
        settings=LONG,
        st=GEMMA_PROMPTS,
        note="two Dense layers",
    ),
    Layout(
        name="harrier-gemma3",
        models=(
            "microsoft/harrier-oss-v1-270m",
            "microsoft/harrier-oss-v1-27b",
            "tencent/KaLM-Embedding-Gemma3-12B-2511",
        ),
        family="Gemma 3",
        config=GEMMA3,
        tokenizer=GEMMA_BPE,
        modules=NORMALIZED_LAST,
        settings=LONG,
    ),
    _fallback(
        "bge-multilingual-gemma2",
        "BAAI/bge-multilingual-gemma2",
        family="Gemma 2",
        config=GEMMA2,
        tokenizer=GEMMA_BPE,
        modules=NORMALIZED_LAST,
        settings=LONG,
        st=prompts(web_search_query=WEB_SEARCH),
    ),
    _fallback(
        "gemma2-eos-stated",
        family="Gemma 2",
        config=GEMMA2,
        tokenizer=GEMMA_EOS_STATED,
        modules=NORMALIZED_LAST,
        settings=LONG,
        twin={"tokenizer": GEMMA_EOS_WRITTEN},
        note="tokenizer_config.json alone appends `<eos>`",
    ),
)
T5S = (
    _fallback(
        "gtr-t5",
        "sentence-transformers/gtr-t5-base",
        "sentence-transformers/gtr-t5-large",
        "sentence-transformers/sentence-t5-base",
        family="T5",
        config=T5,
        tokenizer=T5_UNIGRAM,
        modules=(MEAN, dense(48, bias=False, activation=IDENTITY), NORMALIZE),
    ),
    _fallback(
        "sentence-t5-gated",
        family="T5",
        config=T5 | {"feed_forward_proj": "gated-gelu"},
        tokenizer=T5_UNIGRAM,
    ),
    _fallback(
        "instructor",
        "hkunlp/instructor-base",
        "hkunlp/instructor-large",
        "hkunlp/instructor-xl",
        family="T5",
        config=T5,
        tokenizer=T5_UNIGRAM,
        modules=(
            pooling("mean", include_prompt=False),
            dense(48, bias=False, activation=IDENTITY),
            NORMALIZE,
        ),
        st=prompts(query="Represent the question for retrieving supporting documents: "),
        note="prompts are not pooled",
    ),
    _fallback(
        "umt5",
        family="UMT5",
        config=T5 | {"architectures": ["UMT5EncoderModel"], "model_type": "umt5"},
        tokenizer=T5_UNIGRAM,
    ),
)
REST = (
    _fallback(
        "nemotron-ministral3",
        "nvidia/Nemotron-3-Embed-1B-BF16",
        family="Ministral 3",
        config=DECODER
        | {
            "architectures": ["Ministral3Model"],
            "head_dim": 16,
            "is_causal": False,
            "model_type": "ministral3",
            "pad_token_id": 0,
            "rms_norm_eps": 1e-05,
        },
        tokenizer=LLAMA_BPE,
        note="`is_causal: false`",
    ),
    _fallback(
        "sgpt",
        "Muennighoff/SGPT-125M-weightedmean-nli-bitfit",
        family="GPT-Neo",
        config={
            "activation_function": "gelu_new",
            "architectures": ["GPTNeoModel"],
            "attention_layers": ["global", "local"],
            "attention_types": [[["global", "local"], 1]],
            "bos_token_id": 0,
            "eos_token_id": 0,
            "hidden_size": 64,
            "intermediate_size": 160,
            "layer_norm_epsilon": 1e-05,
            "max_position_embeddings": 128,
            "model_type": "gpt_neo",
            "num_heads": 4,
            "num_layers": 2,
            "window_size": 16,
        },
        tokenizer=TokenizerFiles(
            kind="qwen", template=None, settings=QWEN_NAMES | {"tokenizer_class": "PreTrainedTokenizerFast"}
        ),
        modules=(pooling("weightedmean"),),
        note="weighted mean",
    ),
    _fallback(
        "deberta-v3",
        family="DeBERTa",
        config=_bert_sized(
            "deberta-v2",
            "DebertaV2Model",
            norm_rel_ebd="layer_norm",
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            position_buckets=32,
            relative_attention=True,
            share_att_key=True,
        ),
    ),
    _fallback("electra", family="ELECTRA", config=_bert_sized("electra", "ElectraModel", embedding_size=32)),
    _fallback(
        "albert",
        "sentence-transformers/paraphrase-albert-small-v2",
        family="ALBERT",
        config=_bert_sized("albert", "AlbertModel", embedding_size=32),
        modules=(MEAN,),
    ),
    _fallback(
        "mobilebert",
        family="MobileBERT",
        config=_bert_sized(
            "mobilebert", "MobileBertModel", embedding_size=32, intra_bottleneck_size=64, true_hidden_size=64
        ),
    ),
    _fallback(
        "ernie",
        family="ERNIE",
        config=_bert_sized("ernie", "ErnieModel", task_type_vocab_size=3, use_task_id=False),
    ),
    _fallback(
        "convbert", family="ConvBERT", config=_bert_sized("convbert", "ConvBertModel", embedding_size=64)
    ),
    _fallback(
        "roformer",
        family="RoFormer",
        config=_bert_sized("roformer", "RoFormerModel", embedding_size=64, rotary_value=False),
    ),
    _fallback(
        "roberta-prelayernorm",
        family="RoBERTa, norm first",
        config=ROBERTA
        | {"architectures": ["RobertaPreLayerNormModel"], "model_type": "roberta-prelayernorm"},
        tokenizer=ROBERTA_BPE,
    ),
    _fallback(
        "xlm-roberta-xl",
        family="XLM-RoBERTa-XL",
        config=ROBERTA | {"architectures": ["XLMRobertaXLModel"], "model_type": "xlm-roberta-xl"},
        tokenizer=XLM_UNIGRAM,
    ),
)
LAYOUTS = (*GEMMAS, *T5S, *REST)
