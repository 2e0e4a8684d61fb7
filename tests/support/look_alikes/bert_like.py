"""Encoders with a table of positions: BERT, RoBERTa, XLM-RoBERTa, CamemBERT, MPNet, DistilBERT."""

from typing import Any

from support.look_alikes.files import (
    extra_tensor,
    has,
    has_bytes,
    old_names,
    pickled,
    prefixed,
    sharded,
    stored_as,
    tensors,
)
from support.look_alikes.layout import Layout, Served, TokenizerFiles
from support.look_alikes.modules import (
    CLS,
    MEAN,
    NORMALIZE,
    NORMALIZED_CLS,
    NORMALIZED_MEAN,
    TANH,
    dense,
    new_pooling,
    pooling,
)
from support.look_alikes.published.bert import (
    BERT,
    CAMEMBERT,
    CASED,
    DISTILBERT,
    DISTILBERT_CASED,
    DISTILBERT_WORDPIECE,
    LONG,
    MPNET,
    MPNET_WORDPIECE,
    PADDED_WORDPIECE,
    RETRIEVAL,
    ROBERTA,
    ROBERTA_BPE,
    ROBERTA_NAMES,
    SHORT,
    WORDPIECE,
    XLM_ROBERTA,
    XLM_UNIGRAM,
    prompts,
)


def _bert(name: str, *models: str, modules: Any = NORMALIZED_MEAN, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": BERT, "tokenizer": WORDPIECE, "settings": SHORT, **more}
    return Layout(name=name, models=models, family="BERT", modules=modules, **fields)


def _roberta(name: str, *models: str, modules: Any = NORMALIZED_MEAN, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": ROBERTA, "tokenizer": ROBERTA_BPE, "settings": LONG, **more}
    return Layout(name=name, models=models, family="RoBERTa", modules=modules, **fields)


def _xlmr(name: str, *models: str, modules: Any = NORMALIZED_MEAN, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": XLM_ROBERTA, "tokenizer": XLM_UNIGRAM, "settings": LONG, **more}
    return Layout(name=name, models=models, family="XLM-RoBERTa", modules=modules, **fields)


BERTS = (
    _bert(
        "minilm",
        "sentence-transformers/all-MiniLM-L6-v2",
        "sentence-transformers/all-MiniLM-L12-v2",
        "sentence-transformers/multi-qa-MiniLM-L6-cos-v1",
        tokenizer=PADDED_WORDPIECE,
        note="tokenizer.json truncates and pads",
    ),
    _bert("paraphrase-minilm", "sentence-transformers/paraphrase-MiniLM-L6-v2", modules=(MEAN,)),
    _bert(
        "e5-v2",
        "intfloat/e5-small-v2",
        "intfloat/e5-base-v2",
        "intfloat/e5-large-v2",
        settings=LONG,
    ),
    _bert(
        "gte",
        "thenlper/gte-small",
        "thenlper/gte-base",
        "thenlper/gte-large",
        settings=LONG,
        config=BERT | {"torch_dtype": "float16"},
        changes=(stored_as("float16"),),
        note="weights in float16",
    ),
    _bert(
        "bge-en-v1.5",
        "BAAI/bge-small-en-v1.5",
        "BAAI/bge-base-en-v1.5",
        "BAAI/bge-large-en-v1.5",
        modules=NORMALIZED_CLS,
        settings={"max_seq_length": 90, "do_lower_case": True},
        since=5,
        config=BERT | {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}},
    ),
    _bert(
        "bge-zh-v1.5",
        "BAAI/bge-small-zh-v1.5",
        "BAAI/bge-base-zh-v1.5",
        "BAAI/bge-large-zh-v1.5",
        modules=NORMALIZED_CLS,
        settings={"max_seq_length": 90, "do_lower_case": True},
        since=5,
        config=BERT
        | {"directionality": "bidi", "pooler_fc_size": 768, "pooler_type": "first_token_transform"},
        changes=(pickled,),
        expected=Served(convert=True),
    ),
    _bert(
        "arctic-embed",
        "Snowflake/snowflake-arctic-embed-xs",
        "Snowflake/snowflake-arctic-embed-s",
        "Snowflake/snowflake-arctic-embed-m",
        "Snowflake/snowflake-arctic-embed-l",
        "Snowflake/snowflake-arctic-embed-m-v1.5",
        modules=NORMALIZED_CLS,
        settings=LONG,
        st=prompts(query=RETRIEVAL),
    ),
    _bert(
        "mxbai-embed-large",
        "mixedbread-ai/mxbai-embed-large-v1",
        modules=(CLS,),
        settings=LONG,
        st=prompts(query=RETRIEVAL, passage=""),
        config=BERT | {"use_cache": False, "torch_dtype": "float16"},
    ),
    _bert("uae-large", "WhereIsAI/UAE-Large-V1", modules=(CLS,), settings=LONG),
    _bert(
        "paraphrase-multilingual-minilm",
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        modules=(MEAN,),
        tokenizer=TokenizerFiles(
            kind="xlm-roberta",
            template="<s> $A </s>",
            settings=ROBERTA_NAMES | {"model_max_length": 512, "tokenizer_class": "PreTrainedTokenizerFast"},
        ),
        note="XLM-RoBERTa's tokenizer",
    ),
    _bert(
        "multilingual-e5-small",
        "intfloat/multilingual-e5-small",
        settings=LONG,
        tokenizer=XLM_UNIGRAM,
        config=BERT | {"tokenizer_class": "XLMRobertaTokenizer"},
        note="XLM-RoBERTa's tokenizer",
    ),
    _bert(
        "labse",
        "sentence-transformers/LaBSE",
        modules=(CLS, dense(64, activation=TANH), NORMALIZE),
        tokenizer=CASED,
        config=BERT | {"directionality": "bidi", "pooler_fc_size": 768},
        note="a Dense layer",
    ),
    _bert(
        "contriever",
        "facebook/contriever",
        modules=None,
        settings=None,
        config=BERT | {"architectures": ["Contriever"]},
        twin={"config": BERT},
        note="no modules.json",
    ),
    _bert(
        "rubert-tiny2",
        "cointegrated/rubert-tiny2",
        modules=(pooling("cls", hidden=104), NORMALIZE),
        tokenizer=CASED,
        settings=LONG,
        config=BERT | {"hidden_size": 104, "architectures": ["BertForPreTraining"], "emb_size": 312},
        note="heads of 26",
    ),
    _bert(
        "old-checkpoint",
        changes=(
            tensors(old_names),
            prefixed("bert."),
            extra_tensor("bert.embeddings.position_ids", 1, 96, integers=True),
            extra_tensor("cls.predictions.bias", 10),
        ),
        note="names of TensorFlow, a prefix, buffers, another task's head",
    ),
    _bert(
        "extra-tensors",
        changes=(
            extra_tensor("embeddings.token_type_ids", 1, 64, integers=True),
            extra_tensor("embeddings.position_ids", 1, 96, integers=True),
        ),
        note="buffers among the weights",
    ),
    _bert(
        "masked-lm-with-modules",
        config=BERT | {"architectures": ["BertForMaskedLM"]},
        note="weights of a masked language model, which modules.json makes an embedding model",
    ),
    _bert("sharded", changes=(sharded,), note="weights in two files"),
    _bert("bfloat16", changes=(stored_as("bfloat16"),), note="weights in bfloat16"),
    _bert("new-pooling-keys", modules=(new_pooling("mean", include_prompt=True), NORMALIZE), since=5),
    _bert("one-token-type", config=BERT | {"type_vocab_size": 1}),
    _bert("no-limit-stated", settings=None, note="the position table limits the length"),
    _bert(
        "limit-beyond-table",
        settings={"max_seq_length": 512, "do_lower_case": False},
        twin={"settings": {"max_seq_length": 96, "do_lower_case": False}},
        note="the position table limits the length",
    ),
    _bert("no-architectures", config=BERT | {"architectures": None}),
    _bert(
        "first-layout",
        transformer="0_Transformer",
        modules=(MEAN,),
        changes=(has("0_Transformer/sentence_bert_config.json", SHORT),),
        settings=None,
        note="the transformer in a folder",
    ),
)
ROBERTAS = (
    _roberta(
        "all-distilroberta",
        "sentence-transformers/all-distilroberta-v1",
        "sentence-transformers/all-roberta-large-v1",
    ),
    _roberta(
        "granite-english",
        "ibm-granite/granite-embedding-30m-english",
        "ibm-granite/granite-embedding-125m-english",
        modules=NORMALIZED_CLS,
        config=ROBERTA | {"torch_dtype": "bfloat16"},
        changes=(stored_as("bfloat16"),),
        note="weights in bfloat16",
    ),
    _roberta(
        "sentence-camembert",
        "dangvantuan/sentence-camembert-base",
        modules=(MEAN,),
        config=CAMEMBERT,
        tokenizer=TokenizerFiles(
            kind="xlm-roberta",
            template="<s> $A </s>",
            settings=ROBERTA_NAMES | {"model_max_length": 512, "tokenizer_class": "CamembertTokenizer"},
        ),
    ),
)
XLM_ROBERTAS = (
    _xlmr("multilingual-e5", "intfloat/multilingual-e5-base", "intfloat/multilingual-e5-large"),
    _xlmr(
        "multilingual-e5-instruct",
        "intfloat/multilingual-e5-large-instruct",
        config=XLM_ROBERTA | {"torch_dtype": "float16"},
        changes=(stored_as("float16"),),
    ),
    _xlmr(
        "bge-m3",
        "BAAI/bge-m3",
        modules=NORMALIZED_CLS,
        changes=(
            pickled,
            has_bytes("colbert_linear.pt", b"another head"),
            has_bytes("sparse_linear.pt", b"another head"),
        ),
        expected=Served(convert=True),
    ),
    _xlmr(
        "arctic-embed-l-v2.0",
        "Snowflake/snowflake-arctic-embed-l-v2.0",
        modules=NORMALIZED_CLS,
        st=prompts(query="query: "),
    ),
    _xlmr(
        "granite-multilingual",
        "ibm-granite/granite-embedding-107m-multilingual",
        "ibm-granite/granite-embedding-278m-multilingual",
        modules=NORMALIZED_CLS,
    ),
    _xlmr(
        "masked-lm-with-modules-xlmr",
        config=XLM_ROBERTA | {"architectures": ["XLMRobertaForMaskedLM"]},
        note="weights of a masked language model, which modules.json makes an embedding model",
    ),
    _xlmr(
        "paraphrase-multilingual-mpnet",
        "sentence-transformers/paraphrase-multilingual-mpnet-base-v2",
        modules=(MEAN,),
        settings=SHORT,
        config=XLM_ROBERTA | {"gradient_checkpointing": False},
    ),
)
OTHERS = (
    Layout(
        name="all-mpnet",
        models=("sentence-transformers/all-mpnet-base-v2",),
        family="MPNet",
        config=MPNET | {"architectures": ["MPNetForMaskedLM"]},
        twin={"config": MPNET},
        tokenizer=MPNET_WORDPIECE,
        modules=NORMALIZED_MEAN,
        settings=LONG,
    ),
    Layout(
        name="multi-qa-mpnet-dot",
        models=("sentence-transformers/multi-qa-mpnet-base-dot-v1",),
        family="MPNet",
        config=MPNET,
        tokenizer=MPNET_WORDPIECE,
        modules=(CLS,),
        settings=LONG,
    ),
    Layout(
        name="distiluse",
        models=("sentence-transformers/distiluse-base-multilingual-cased-v2",),
        family="DistilBERT",
        config=DISTILBERT,
        tokenizer=DISTILBERT_CASED,
        modules=(MEAN, dense(48, activation=TANH)),
        settings=SHORT,
        note="a Dense layer",
    ),
    Layout(
        name="msmarco-distilbert",
        models=("sentence-transformers/msmarco-distilbert-base-tas-b",),
        family="DistilBERT",
        config=DISTILBERT | {"sinusoidal_pos_embds": True},
        tokenizer=DISTILBERT_WORDPIECE,
        modules=(CLS,),
        settings=LONG,
    ),
)
LAYOUTS = (*BERTS, *ROBERTAS, *XLM_ROBERTAS, *OTHERS)
