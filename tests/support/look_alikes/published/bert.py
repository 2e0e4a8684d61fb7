"""config.json and tokenizers of BERT-like encoders, as the hub has them."""

from typing import Any

from support.look_alikes.layout import ABSENT, TokenizerFiles

SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "max_position_embeddings": 96,
}
BERT: dict[str, Any] = SMALL | {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "classifier_dropout": None,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "model_type": "bert",
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "torch_dtype": "float32",
    "transformers_version": "4.8.2",
    "type_vocab_size": 2,
    "use_cache": True,
}
ROBERTA = BERT | {
    "architectures": ["RobertaModel"],
    "bos_token_id": 0,
    "eos_token_id": 2,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 98,
    "model_type": "roberta",
    "pad_token_id": 1,
    "type_vocab_size": 1,
}
XLM_ROBERTA = ROBERTA | {
    "architectures": ["XLMRobertaModel"],
    "model_type": "xlm-roberta",
    "output_past": True,
}
CAMEMBERT = ROBERTA | {"architectures": ["CamembertModel"], "model_type": "camembert"}
MPNET = ROBERTA | {
    "architectures": ["MPNetModel"],
    "model_type": "mpnet",
    "relative_attention_num_buckets": 32,
    "position_embedding_type": ABSENT,
    "type_vocab_size": ABSENT,
    "use_cache": ABSENT,
}
DISTILBERT: dict[str, Any] = {
    "activation": "gelu",
    "architectures": ["DistilBertModel"],
    "attention_dropout": 0.1,
    "dim": 64,
    "dropout": 0.1,
    "hidden_dim": 160,
    "initializer_range": 0.02,
    "max_position_embeddings": 96,
    "model_type": "distilbert",
    "n_heads": 4,
    "n_layers": 2,
    "output_hidden_states": True,
    "output_past": True,
    "pad_token_id": 0,
    "qa_dropout": 0.1,
    "seq_classif_dropout": 0.2,
    "sinusoidal_pos_embds": False,
    "tie_weights_": True,
    "transformers_version": "4.8.2",
}

BERT_NAMES = {
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
    "pad_token": "[PAD]",
    "sep_token": "[SEP]",
    "unk_token": "[UNK]",
}
BERT_SETTINGS = BERT_NAMES | {
    "do_basic_tokenize": True,
    "do_lower_case": True,
    "model_max_length": 512,
    "never_split": None,
    "strip_accents": None,
    "tokenize_chinese_chars": True,
    "tokenizer_class": "BertTokenizer",
}
ROBERTA_NAMES = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "eos_token": "</s>",
    "mask_token": "<mask>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
}
WORDPIECE = TokenizerFiles(kind="wordpiece", template="[CLS] $A [SEP]", settings=BERT_SETTINGS)
# As some repositories have it; sentence-transformers asks for other lengths.
PADDED_WORDPIECE = TokenizerFiles(
    kind="wordpiece",
    template="[CLS] $A [SEP]",
    settings=BERT_SETTINGS,
    parts={
        "truncation": {"direction": "Right", "max_length": 24, "strategy": "LongestFirst", "stride": 0},
        "padding": {
            "strategy": {"Fixed": 24},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
    },
)
CASED = TokenizerFiles(
    kind="cased wordpiece",
    template="[CLS] $A [SEP]",
    settings=BERT_SETTINGS | {"do_lower_case": False},
)
DISTILBERT_WORDPIECE = TokenizerFiles(
    kind="wordpiece",
    template="[CLS] $A [SEP]",
    settings=BERT_SETTINGS | {"tokenizer_class": "DistilBertTokenizer"},
)
DISTILBERT_CASED = TokenizerFiles(
    kind="cased wordpiece",
    template="[CLS] $A [SEP]",
    settings=BERT_SETTINGS | {"do_lower_case": False, "tokenizer_class": "DistilBertTokenizer"},
)
MPNET_WORDPIECE = TokenizerFiles(
    kind="mpnet wordpiece",
    template="<s> $A </s>",
    settings=ROBERTA_NAMES
    | {
        "do_lower_case": True,
        "model_max_length": 512,
        "strip_accents": None,
        "tokenize_chinese_chars": True,
        "tokenizer_class": "MPNetTokenizer",
        "unk_token": "[UNK]",
    },
)
ROBERTA_BPE = TokenizerFiles(
    kind="roberta",
    template="<s> $A </s>",
    settings=ROBERTA_NAMES
    | {
        "add_prefix_space": False,
        "errors": "replace",
        "model_max_length": 512,
        "tokenizer_class": "RobertaTokenizer",
        "trim_offsets": True,
    },
)
XLM_UNIGRAM = TokenizerFiles(
    kind="xlm-roberta",
    template="<s> $A </s>",
    settings=ROBERTA_NAMES | {"model_max_length": 512, "tokenizer_class": "XLMRobertaTokenizer"},
)
LONG = {"max_seq_length": 90, "do_lower_case": False}
SHORT = {"max_seq_length": 48, "do_lower_case": False}
RETRIEVAL = "Represent this sentence for searching relevant passages: "


def prompts(**texts: str) -> dict[str, Any]:
    """config_sentence_transformers.json with prompts and no default."""
    return {
        "__version__": {"sentence_transformers": "3.0.0", "transformers": "4.41.2", "pytorch": "2.3.0"},
        "prompts": texts,
        "default_prompt_name": None,
        "similarity_fn_name": "cosine",
    }
