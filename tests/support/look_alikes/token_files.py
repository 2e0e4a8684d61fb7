"""Files that change token ids: tokenizer_config.json and others over tokenizer.json, or in its place."""

from typing import Any

from support.look_alikes.files import has, lacks, split_vocabulary
from support.look_alikes.layout import Layout, TokenizerFiles
from support.look_alikes.modules import MEAN, NORMALIZE, NORMALIZED_LAST
from support.look_alikes.published.bert import (
    BERT,
    BERT_NAMES,
    BERT_SETTINGS,
    CASED,
    LONG,
    ROBERTA,
    ROBERTA_BPE,
    SHORT,
    WORDPIECE,
    XLM_ROBERTA,
    XLM_UNIGRAM,
)
from support.look_alikes.published.decoders import LLAMA, LLAMA_NAMES, QWEN3, QWEN_BPE

# Rows for tokens that are added to the tokenizer and not to tokenizer.json.
_MORE_ROWS = {"vocab_size": 720}
_ADDED = {
    "content": "<ent>",
    "lstrip": False,
    "normalized": False,
    "rstrip": False,
    "single_word": False,
    "special": True,
}


def _bert(name: str, tokenizer: TokenizerFiles = WORDPIECE, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": BERT, "settings": SHORT, "modules": (MEAN, NORMALIZE), **more}
    return Layout(name=name, family="BERT", tokenizer=tokenizer, **fields)


def _stated(files: TokenizerFiles, **settings: Any) -> TokenizerFiles:
    return TokenizerFiles(
        kind=files.kind,
        template=files.template,
        parts=files.parts,
        settings={**(files.settings or {}), **settings},
    )


def _roberta(name: str, tokenizer: TokenizerFiles = ROBERTA_BPE, **more: Any) -> Layout:
    fields: dict[str, Any] = {"config": ROBERTA, "settings": LONG, "modules": (MEAN, NORMALIZE), **more}
    return Layout(name=name, family="RoBERTa", tokenizer=tokenizer, **fields)


BERTS = (
    _bert("stated-lower-case", _stated(CASED, do_lower_case=True)),
    _bert("stated-cased", _stated(WORDPIECE, do_lower_case=False)),
    _bert("stated-accents-kept", _stated(WORDPIECE, strip_accents=False)),
    _bert("stated-accents-stripped", _stated(CASED, strip_accents=True)),
    _bert("stated-chinese-together", _stated(WORDPIECE, tokenize_chinese_chars=False)),
    _bert("no-tokenizer-config", CASED, changes=(lacks("tokenizer_config.json"),)),
    _bert("no-tokenizer-json", changes=(lacks("tokenizer.json"),), note="vocab.txt alone"),
    _bert("no-tokenizer-json-cased", CASED, changes=(lacks("tokenizer.json"),)),
    _bert(
        "no-tokenizer-json-nor-config",
        CASED,
        changes=(lacks("tokenizer.json", "tokenizer_config.json"),),
        note="BERT's defaults",
    ),
    _bert(
        "stated-special-tokens",
        _stated(WORDPIECE, additional_special_tokens=["<ent>"]),
        config=BERT | _MORE_ROWS,
    ),
    _bert(
        "stated-added-tokens",
        _stated(WORDPIECE, added_tokens_decoder={"700": _ADDED}),
        config=BERT | _MORE_ROWS,
    ),
    _bert(
        "added-tokens-file",
        changes=(has("added_tokens.json", {"<ent>": 700}),),
        config=BERT | _MORE_ROWS,
    ),
    _bert(
        "special-tokens-map",
        _stated(WORDPIECE),
        changes=(has("special_tokens_map.json", BERT_NAMES | {"additional_special_tokens": ["<ent>"]}),),
        config=BERT | _MORE_ROWS,
    ),
    _bert(
        "bert-fast-class",
        TokenizerFiles(
            kind="wordpiece",
            template="[CLS] $A [SEP]",
            settings=BERT_SETTINGS | {"tokenizer_class": "BertTokenizerFast", "strip_accents": False},
        ),
    ),
    _bert("truncated-on-the-left", _stated(WORDPIECE, truncation_side="left")),
    _bert("special-tokens-split", _stated(WORDPIECE, split_special_tokens=True)),
    _bert("lower-case-by-sentence-transformers", CASED, settings=SHORT | {"do_lower_case": True}, since=5),
)
OTHERS = (
    _roberta("stated-prefix-space", _stated(ROBERTA_BPE, add_prefix_space=True)),
    _roberta("no-tokenizer-json-roberta", changes=(split_vocabulary, lacks("tokenizer.json")), note="merges"),
    Layout(
        name="literal-padding",
        family="XLM-RoBERTa",
        config=XLM_ROBERTA,
        tokenizer=XLM_UNIGRAM,
        modules=(MEAN, NORMALIZE),
        settings=LONG,
        note="a padding token written out in a text",
    ),
    Layout(
        name="qwen-truncated-on-the-left",
        family="Qwen3",
        config=QWEN3,
        tokenizer=_stated(QWEN_BPE, truncation_side="left"),
        modules=NORMALIZED_LAST,
        settings=SHORT,
    ),
    Layout(
        name="llama-eos-stated",
        family="Llama",
        config=LLAMA,
        tokenizer=TokenizerFiles(
            kind="llama3",
            template="<|begin_of_text|> $A",
            settings=LLAMA_NAMES
            | {"add_bos_token": True, "add_eos_token": True, "tokenizer_class": "LlamaTokenizerFast"},
        ),
        modules=NORMALIZED_LAST,
        settings=LONG,
        twin={
            "tokenizer": TokenizerFiles(
                kind="llama3",
                template="<|begin_of_text|> $A <|end_of_text|>",
                settings=LLAMA_NAMES,
            )
        },
    ),
)
LAYOUTS = (*BERTS, *OTHERS)
