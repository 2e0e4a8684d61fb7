"""Directories of tiny tokenizers, trained here, as the model families on the hub have them."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Library

TEXTS = (
    "Hello Paris, the CAPITAL of France!",
    "the café résumé naïve",
    "foo日本bar 北京 の",
    "  two  spaces \n and a line",
    "don't 3.14 x86_64 <tag> </tag>",
    "",
    " ",
    "a",
)
_CORPUS = [*TEXTS, "hello paris the capital of france cafe resume naive foo bar", "日 本 北 京"] * 20
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)


_ANGLES = {"bos": "<s>", "eos": "</s>", "cls": "<s>", "sep": "</s>", "pad": "<pad>", "unk": "<unk>"}


def _save(trained: str, directory: Path, settings: dict[str, Any], model_type: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(trained)
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    config = {"model_type": model_type, "vocab_size": Library.from_str(trained).get_vocab_size()}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def _template(library: Library, template: str) -> Any:
    used = [part for part in template.split() if not part.startswith("$")]
    return processors.TemplateProcessing(
        single=template, special_tokens=[(part, library.token_to_id(part)) for part in dict.fromkeys(used)]
    )


def _roles(names: str, tokens: dict[str, str]) -> dict[str, Any]:
    return {f"{name}_token": tokens[name] for name in names.split()}


def _wordpiece(name: str, model_type: str, tokens: dict[str, str]) -> Callable[..., Path]:
    @cache
    def trained() -> str:
        library = Library(models.WordPiece(unk_token=tokens["unk"]))
        library.normalizer = normalizers.BertNormalizer(lowercase=True)
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        special = list(dict.fromkeys(tokens.values()))
        # Both cases, accents and joined characters, so that every switch of the normalizer shows.
        library.normalizer = normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False)
        library.train_from_iterator(
            _CORPUS, trainers.WordPieceTrainer(vocab_size=600, special_tokens=special, show_progress=False)
        )
        library.normalizer = normalizers.BertNormalizer(lowercase=True)
        library.post_processor = _template(library, f"{tokens['cls']} $A {tokens['sep']}")
        return str(library.to_str())

    def write(directory: Path, **settings: Any) -> Path:
        roles = _roles("unk sep pad cls mask", tokens)
        return _save(trained(), directory, {"tokenizer_class": name, **roles, **settings}, model_type)

    return write


def _byte_level(name: str, model_type: str, *, qwen: bool = False) -> Callable[..., Path]:
    tokens = {"eos": "<|im_end|>", "pad": "<|endoftext|>"} if qwen else _ANGLES

    @cache
    def trained() -> str:
        library = Library(models.BPE())
        plain = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not qwen)
        library.pre_tokenizer = (
            pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(_QWEN), "isolated"), plain])
            if qwen
            else plain
        )
        library.normalizer = normalizers.NFC() if qwen else None
        special = list(dict.fromkeys(tokens.values()))
        library.train_from_iterator(
            _CORPUS,
            trainers.BpeTrainer(
                vocab_size=500,
                special_tokens=special,
                show_progress=False,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            ),
        )
        if name == "RobertaTokenizer":
            library.post_processor = processors.RobertaProcessing(
                ("</s>", special.index("</s>")), ("<s>", special.index("<s>")), add_prefix_space=False
            )
        elif not qwen:
            library.post_processor = _template(library, "<s> $A </s>")
        return str(library.to_str())

    def write(directory: Path, **settings: Any) -> Path:
        roles = _roles(" ".join(tokens), tokens)
        return _save(trained(), directory, {"tokenizer_class": name, **roles, **settings}, model_type)

    return write


@cache
def _trained_unigram() -> str:
    library = Library(models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    library.train_from_iterator(
        _CORPUS,
        trainers.UnigramTrainer(
            vocab_size=200, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    library.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    library.post_processor = _template(library, "<s> $A </s>")
    return str(library.to_str())


def _unigram(directory: Path, **settings: Any) -> Path:
    roles = _roles(" ".join(_ANGLES), _ANGLES) | {"mask_token": "<mask>"}
    described = {"tokenizer_class": "XLMRobertaTokenizer", **roles, **settings}
    return _save(_trained_unigram(), directory, described, "xlm-roberta")


def _sentencepiece_bpe(
    name: str, model_type: str, *, begin: str, end: str, gemma: bool = False
) -> Callable[..., Path]:
    @cache
    def trained() -> str:
        library = Library(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
        steps = [normalizers.Replace(" ", "▁")]
        library.normalizer = normalizers.Sequence([*([] if gemma else [normalizers.Prepend("▁")]), *steps])
        if gemma:
            library.normalizer = steps[0]
            library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
        special = ["<pad>", end, begin, "<unk>"]
        bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
        library.train_from_iterator(
            _CORPUS,
            trainers.BpeTrainer(vocab_size=300, special_tokens=[*special, *bytes_], show_progress=False),
        )
        state = json.loads(library.to_str())
        state["added_tokens"] = [each for each in state["added_tokens"] if each["content"] in special]
        library = Library.from_str(json.dumps(state))
        library.post_processor = _template(library, f"{begin} $A")
        return str(library.to_str())

    def write(directory: Path, **settings: Any) -> Path:
        roles = {"bos_token": begin, "eos_token": end, "unk_token": "<unk>", "pad_token": "<pad>"}
        return _save(trained(), directory, {"tokenizer_class": name, **roles, **settings}, model_type)

    return write


_BRACKETS = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_MPNET = {"pad": "<pad>", "unk": "[UNK]", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}

#: Family -> writes a tokenizer of it into a directory, with these settings in tokenizer_config.json
FAMILIES: dict[str, Callable[..., Path]] = {
    "bert": _wordpiece("BertTokenizer", "bert", _BRACKETS),
    "distilbert": _wordpiece("DistilBertTokenizer", "distilbert", _BRACKETS),
    "mpnet": _wordpiece("MPNetTokenizer", "mpnet", _MPNET),
    "roberta": _byte_level("RobertaTokenizer", "roberta"),
    "modernbert": _byte_level("PreTrainedTokenizerFast", "modernbert"),
    "qwen2": _byte_level("Qwen2Tokenizer", "qwen2", qwen=True),
    "xlm-roberta": _unigram,
    "llama": _sentencepiece_bpe("LlamaTokenizer", "llama", begin="<s>", end="</s>"),
    "mistral": _sentencepiece_bpe("LlamaTokenizer", "mistral", begin="<s>", end="</s>"),
    "gemma": _sentencepiece_bpe("GemmaTokenizer", "gemma2", begin="<bos>", end="<eos>", gemma=True),
}
