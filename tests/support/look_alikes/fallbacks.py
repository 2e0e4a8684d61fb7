"""Gemma, T5 and the families that only transformers implements."""

from typing import Any

from support.look_alikes.layout import ABSENT, By, Layout, Served, TokenizerFiles
from support.look_alikes.modules import (
    IDENTITY,
    MEAN,
    NORMALIZE,
    NORMALIZED_LAST,
    NORMALIZED_MEAN,
    dense,
    pooling,
)
from support.look_alikes.published.bert import (
    BERT,
    LONG,
    ROBERTA,
    ROBERTA_BPE,
    SHORT,
    WORDPIECE,
    XLM_UNIGRAM,
    prompts,
)
from support.look_alikes.published.decoders import DECODER, LLAMA_BPE, QWEN_NAMES, WEB_SEARCH
from support.look_alikes.published.gemma_t5 import (
    EMBEDDING_GEMMA,
    GEMMA2,
    GEMMA3,
    GEMMA_BPE,
    GEMMA_EOS_STATED,
    GEMMA_EOS_WRITTEN,
    GEMMA_PROMPTS,
    T5,
    T5_UNIGRAM,
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
        expected=Served(),
        config=GEMMA2,
        tokenizer=GEMMA_BPE,
        modules=NORMALIZED_LAST,
        settings=LONG,
        st=prompts(web_search_query=WEB_SEARCH),
    ),
    _fallback(
        "gemma2-eos-stated",
        family="Gemma 2",
        expected=Served(),
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
        since=5,
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
            kind="qwen",
            template=None,
            settings=QWEN_NAMES
            | {
                "model_input_names": ["input_ids", "attention_mask"],
                "tokenizer_class": "PreTrainedTokenizerFast",
            },
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
