"""Layouts of 2025 and 2026: newer networks through transformers, code of their own, more heads."""

from typing import Any

from support.look_alikes.layout import By, Layout, Refused, Served
from support.look_alikes.modules import (
    IDENTITY,
    MEAN,
    NORMALIZE,
    NORMALIZED_LAST,
    NORMALIZED_MEAN,
    dense,
)
from support.look_alikes.published.bert import BERT, LONG, SHORT, WORDPIECE, XLM_ROBERTA, XLM_UNIGRAM, prompts
from support.look_alikes.published.decoders import DECODER, LLAMA_BPE, QWEN3, QWEN_BPE
from support.look_alikes.published.gemma_t5 import GEMMA_BPE
from support.look_alikes.published.rotary import MODERNBERT

_BY_FALLBACK = Served(by=By.FALLBACK)


def _recent(name: str, *models: str, family: str, config: dict[str, Any], **more: Any) -> Layout:
    fields: dict[str, Any] = {
        "tokenizer": QWEN_BPE,
        "modules": NORMALIZED_LAST,
        "settings": LONG,
        "expected": _BY_FALLBACK,
        **more,
    }
    return Layout(name=name, models=models, family=family, config=config, **fields)


LAYOUTS = (
    _recent(
        "mmbert",
        "jhu-clsp/mmBERT-base",
        family="ModernBERT",
        config=MODERNBERT,
        tokenizer=GEMMA_BPE,
        modules=NORMALIZED_MEAN,
        expected=Served(),
    ),
    _recent(
        "leaf",
        "MongoDB/mdbr-leaf-ir",
        "MongoDB/mdbr-leaf-mt",
        family="BERT",
        config=BERT,
        tokenizer=WORDPIECE,
        modules=(MEAN, dense(96, activation=IDENTITY), NORMALIZE),
        settings=SHORT,
        st=prompts(query="Represent this sentence for searching relevant passages: ", document=""),
        expected=Served(),
    ),
    _recent(
        "lfm2",
        "LiquidAI/LFM2-350M",
        family="LFM2",
        config=DECODER
        | {
            "architectures": ["Lfm2Model"],
            "model_type": "lfm2",
            "conv_L_cache": 3,
            "conv_bias": False,
            "block_auto_adjust_ff_dim": False,
            "block_ff_dim": 160,
            "layer_types": ["conv", "full_attention"],
            "norm_eps": 1e-5,
            "rope_theta": 1000000.0,
        },
    ),
    _recent(
        "qwen3.5",
        "Qwen/Qwen3.5-0.8B",
        family="Qwen3.5",
        config=DECODER
        | {
            "architectures": ["Qwen3_5TextModel"],
            "model_type": "qwen3_5_text",
            "head_dim": 32,
            "layer_types": ["linear_attention", "full_attention"],
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
        },
    ),
    _recent(
        "smollm3",
        "HuggingFaceTB/SmolLM3-3B",
        family="SmolLM3",
        config=DECODER
        | {
            "architectures": ["SmolLM3Model"],
            "model_type": "smollm3",
            "no_rope_layers": [1, 0],
            "pad_token_id": 0,
            "rope_theta": 5000000.0,
        },
        modules=NORMALIZED_MEAN,
    ),
    _recent(
        "phi3",
        "microsoft/Phi-4-mini-instruct",
        family="Phi-3",
        config=DECODER
        | {
            "architectures": ["Phi3Model"],
            "model_type": "phi3",
            "pad_token_id": 0,
            "partial_rotary_factor": 0.75,
            "rope_theta": 10000.0,
        },
    ),
    _recent(
        "granite-decoder",
        "ibm-granite/granite-3.3-2b-base",
        family="Granite",
        config=DECODER
        | {
            "architectures": ["GraniteModel"],
            "attention_multiplier": 0.0625,
            "embedding_multiplier": 12.0,
            "model_type": "granite",
            "residual_multiplier": 0.22,
        },
        tokenizer=LLAMA_BPE,
    ),
    _recent(
        "olmo2",
        "allenai/OLMo-2-0425-1B",
        family="OLMo 2",
        config=DECODER | {"architectures": ["Olmo2Model"], "model_type": "olmo2", "pad_token_id": 0},
    ),
    _recent(
        "jina-v3-native",
        "jinaai/jina-embeddings-v3-hf",
        family="Jina v3",
        config=XLM_ROBERTA
        | {
            "architectures": ["JinaEmbeddingsV3Model"],
            "model_type": "jina_embeddings_v3",
            "rope_theta": 20000.0,
        },
        tokenizer=XLM_UNIGRAM,
        modules=NORMALIZED_MEAN,
        settings=SHORT,
    ),
    _recent(
        "embeddinggemma-2-text",
        family="EmbeddingGemma 2",
        config={
            "architectures": ["EmbeddingGemma2TextModel"],
            "global_head_dim": 32,
            "head_dim": 16,
            "hidden_activation": "gelu_pytorch_tanh",
            "hidden_size": 64,
            "hidden_size_per_layer_input": 16,
            "embedding_dim": 96,
            "intermediate_size": 160,
            "layer_types": ["sliding_attention", "full_attention"],
            "max_position_embeddings": 256,
            "model_type": "embedding_gemma2_text",
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "num_key_value_heads": 2,
            "num_global_key_value_heads": 1,
            "sliding_window": 16,
        },
        tokenizer=GEMMA_BPE,
        modules=NORMALIZED_MEAN,
    ),
    _recent(
        "voyageai/voyage-4-nano",
        family="Qwen3",
        config=QWEN3
        | {
            "architectures": ["VoyageQwen3BidirectionalEmbedModel"],
            "auto_map": {
                "AutoModel": "modeling_qwen3_bidirectional_embed.VoyageQwen3BidirectionalEmbedModel"
            },
            "num_labels": 2048,
        },
        twin={"config": QWEN3},
        modules=NORMALIZED_MEAN,
        expected=Refused(because="code of its own", sentence="remote code|comes with the model"),
    ),
    _recent(
        "pplx-embed",
        "perplexity-ai/pplx-embed-v1-0.6b",
        family="Qwen3",
        config=QWEN3
        | {
            "architectures": ["PPLXQwen3Model"],
            "auto_map": {
                "AutoConfig": "configuration.PPLXQwen3Config",
                "AutoModel": "modeling.PPLXQwen3Model",
            },
            "model_type": "bidirectional_pplx_qwen3",
        },
        twin={"config": QWEN3},
        modules=NORMALIZED_MEAN,
        expected=Refused(because="code of its own", sentence="remote code|comes with the model"),
    ),
)
