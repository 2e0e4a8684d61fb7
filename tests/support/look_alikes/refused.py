"""What must not be served: no embedding models, remote code of others."""

from support.look_alikes.custom_onnx import JINA_V2
from support.look_alikes.files import extra_tensor, has, has_bytes, lacks, moved, prefixed
from support.look_alikes.layout import Module
from support.look_alikes.modules import IDENTITY, dense
from support.look_alikes.published.bert import BERT, DISTILBERT, XLM_ROBERTA, XLM_UNIGRAM
from support.look_alikes.published.decoders import MISTRAL, MISTRAL_EOS_WRITTEN, QWEN3, QWEN_BPE
from support.look_alikes.published.rotary import NOMIC, NOMIC_NATIVE
from support.look_alikes.refused_options import refused

SPARSE = "sentence_transformers.sparse_encoder.models"
_FLASH = "jinaai/xlm-roberta-flash-implementation"
_ONE_LABEL = {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}


NO_EMBEDDING = (
    refused(
        "cross-encoder",
        "cross-encoder/ms-marco-MiniLM-L6-v2",
        because="a cross-encoder",
        sentence="(?i)classif|cross-encoder",
        config=BERT | {"architectures": ["BertForSequenceClassification"]} | _ONE_LABEL,
        modules=None,
        settings=None,
    ),
    refused(
        "reranker",
        "BAAI/bge-reranker-v2-m3",
        because="a cross-encoder",
        sentence="(?i)classif|cross-encoder",
        family="XLM-RoBERTa",
        config=XLM_ROBERTA | {"architectures": ["XLMRobertaForSequenceClassification"]} | _ONE_LABEL,
        tokenizer=XLM_UNIGRAM,
        modules=None,
        settings=None,
    ),
    refused(
        "token-classifier",
        because="a token classifier",
        sentence="(?i)classif",
        config=BERT | {"architectures": ["BertForTokenClassification"]},
        modules=None,
        settings=None,
    ),
    refused(
        "splade-plain",
        "naver/splade-cocondenser-ensembledistil",
        "opensearch-project/opensearch-neural-sparse-encoding-v1",
        because="a sparse encoder",
        sentence="(?i)masked|sparse|SPLADE",
        config=BERT | {"architectures": ["BertForMaskedLM"]},
        modules=None,
        settings=None,
    ),
    refused(
        "splade-modules",
        "naver/splade-v3",
        because="a sparse encoder",
        sentence="(?i)sparse|SPLADE",
        config=DISTILBERT,
        family="DistilBERT",
        first=Module(kind="MLMTransformer", package=SPARSE),
        modules=(Module(kind="SpladePooling", package=SPARSE, config={"pooling_strategy": "max"}),),
    ),
    refused(
        "colbert",
        "colbert-ir/colbertv2.0",
        because="a late-interaction model",
        sentence="(?i)colbert|late.interaction|HF_ColBERT",
        config=BERT | {"architectures": ["HF_ColBERT"]},
        twin={"config": BERT},
        modules=None,
        settings=None,
        changes=(prefixed("bert."), extra_tensor("linear.weight", 32, 64)),
    ),
    refused(
        "pylate",
        "lightonai/GTE-ModernColBERT-v1",
        family="ModernBERT",
        because="a late-interaction model",
        sentence="(?i)pylate|late.interaction|Pooling",
        modules=(Module(kind="Dense", package="pylate.models.Dense", config={"in_features": 64}),),
    ),
    refused(
        "token-vectors",
        because="a late-interaction model",
        sentence="(?i)pooling|late.interaction",
        modules=(dense(32, bias=False, activation=IDENTITY),),
    ),
    refused(
        "clip-module",
        "sentence-transformers/clip-ViT-B-32",
        family="CLIP",
        because="CLIP",
        sentence="CLIP",
        first=Module(kind="CLIPModel"),
        modules=(),
        transformer="0_CLIPModel",
    ),
    refused(
        "clip-text",
        "openai/clip-vit-base-patch32",
        family="CLIP",
        because="CLIP",
        sentence="(?i)clip",
        config={"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 64},
        twin={"config": BERT},
        modules=None,
        settings=None,
    ),
    refused(
        "vision-language",
        "Qwen/Qwen3-VL-Embedding-2B",
        family="Qwen3-VL",
        because="a multimodal model",
        sentence="(?i)qwen3_vl|text models",
        config={
            "architectures": ["Qwen3VLForConditionalGeneration"],
            "model_type": "qwen3_vl",
            "text_config": {"hidden_size": 64},
            "vision_config": {},
        },
        twin={"config": BERT},
    ),
    refused(
        "adapter",
        because="a PEFT adapter without its base",
        sentence="(?i)adapter",
        changes=(
            lacks("config.json"),
            has("adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "x/y"}),
            moved("model.safetensors", "adapter_model.safetensors"),
        ),
    ),
    refused(
        "adapter-beside-weights",
        because="a PEFT adapter that transformers would add",
        sentence="(?i)adapter",
        changes=(
            has("adapter_config.json", {"peft_type": "LORA", "base_model_name_or_path": "x/y"}),
            has_bytes("adapter_model.safetensors", b""),
        ),
    ),
    refused(
        "language-model",
        "Qwen/Qwen3-0.6B",
        family="Qwen3",
        because="a language model",
        sentence="(?i)language model|CausalLM|generat",
        config=QWEN3,
        tokenizer=QWEN_BPE,
        modules=None,
        settings=None,
    ),
    refused(
        "word-vectors",
        "sentence-transformers/average_word_embeddings_glove.6B.300d",
        family="static",
        because="a tokenizer of its own",
        sentence="WordEmbeddings",
        first=Module(kind="WordEmbeddings"),
        transformer="0_WordEmbeddings",
    ),
    refused(
        "gguf",
        "nomic-ai/nomic-embed-text-v1.5-GGUF",
        family="Nomic-BERT",
        because="GGUF",
        sentence="(?i)gguf",
        changes=(lacks("model.safetensors"), has_bytes("model-Q4_K_M.gguf", b"GGUF\x03\0\0\0")),
    ),
)
REMOTE_CODE = (
    refused(
        "jina-v2",
        "jinaai/jina-embeddings-v2-base-en",
        "jinaai/jina-embeddings-v2-small-en",
        "jinaai/jina-embeddings-v2-base-code",
        because="remote code",
        sentence="remote code",
        family="Jina v2",
        config=JINA_V2,
        twin={"config": BERT},
    ),
    refused(
        "jina-v3",
        "jinaai/jina-embeddings-v3",
        because="code of its own",
        sentence="code that comes with the model",
        family="Jina v3",
        config=XLM_ROBERTA
        | {
            "auto_map": {
                "AutoConfig": f"{_FLASH}--configuration_xlm_roberta.XLMRobertaFlashConfig",
                "AutoModel": f"{_FLASH}--modeling_lora.XLMRobertaLoRA",
            },
            "lora_adaptations": ["retrieval.query", "retrieval.passage"],
            "position_embedding_type": "rotary",
            "rotary_emb_base": 20000.0,
        },
        twin={"config": XLM_ROBERTA},
        tokenizer=XLM_UNIGRAM,
        first=Module(kind="Transformer", package="custom_st"),
    ),
    refused(
        "nomic-v2-moe",
        "nomic-ai/nomic-embed-text-v2-moe",
        because="experts",
        sentence="moe|expert|num_experts|remote code",
        family="Nomic-BERT",
        config=NOMIC
        | {
            "activation_function": "gelu",
            "expert_choice_router": False,
            "ffn_div": 1.0,
            "mlp_fc1_bias": True,
            "mlp_fc2_bias": True,
            "moe_every_n_layers": 2,
            "moe_impl": "megablocks",
            "moe_normalize_expert_weights": False,
            "moe_resid_pdrop": 0.0,
            "moe_top_k": 2,
            "num_experts": 8,
            "num_shared_experts": 0,
            "qkv_proj_bias": True,
            "router_aux_loss_coef": 0.1,
            "rotary_emb_base": 10000,
            "type_vocab_size": 1,
        },
        twin={"config": NOMIC_NATIVE},
        tokenizer=XLM_UNIGRAM,
    ),
    refused(
        "nv-embed",
        "nvidia/NV-Embed-v2",
        because="code of its own",
        sentence="remote code|comes with the model",
        family="Mistral",
        config=MISTRAL
        | {
            "architectures": ["NVEmbedModel"],
            "auto_map": {
                "AutoConfig": "configuration_nvembed.NVEmbedConfig",
                "AutoModel": "modeling_nvembed.NVEmbedModel",
            },
            "model_type": "nvembed",
        },
        twin={"config": MISTRAL},
        tokenizer=MISTRAL_EOS_WRITTEN,
        modules=None,
        settings=None,
    ),
    refused(
        "cde-small",
        "jxm/cde-small-v2",
        family="ModernBERT",
        because="code of its own",
        sentence="remote code|comes with the model",
        config=BERT
        | {
            "architectures": ["ContextualDocumentEmbeddingTransformer"],
            "auto_map": {"AutoConfig": "misc.ContextualModelConfig", "AutoModel": "model.DatasetTransformer"},
        },
        twin={"config": BERT},
        first=Module(kind="Transformer", package="sentence_transformers_impl"),
    ),
    refused(
        "unknown-remote-code",
        because="remote code",
        sentence="remote code",
        config=BERT | {"auto_map": {"AutoModel": "modeling_mine.MyModel"}},
        twin={"config": BERT},
    ),
)
LAYOUTS = (*NO_EMBEDDING, *REMOTE_CODE)
