"""Tokenizers of the kinds that real models have, trained on a few hundred words."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from support.look_alikes.layout import TokenizerFiles
from support.model_directory import write

_TEXT = (
    "Sediment cores from the delta record nine floods in the last two thousand years . The quick brown "
    "fox jumps over the lazy dog while engineers measure embeddings of many texts with care , and query "
    "passage search document Represent this sentence for searching relevant passages : München fährt "
    "Gleis fünf Reykjavík château détruit niño comió manzanas Поезд отправляется через десять минут 東京 "
    "は 日本 の 首都 です 北京 是 中华人民共和国 القاهرة هي عاصمة def add a int b return SELECT "
    "name COUNT FROM users WHERE age 3.14159 1,000,000 naïve café"
)
_WORDS = _TEXT.split()
_QWEN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SIZE = 700
_BYTES = pre_tokenizers.ByteLevel.alphabet()


@cache
def texts() -> tuple[str, ...]:
    """Unusual texts, many scripts, and lengths from nothing to more than fits into a look-alike."""
    random = np.random.default_rng(17)
    odd = (
        "", " ", "\n\t  \n", "a", "Hello, world!", "  leading and trailing  ", "UPPER case Mixed CASE",
        "Reykjavík is the capital of Iceland — naïve café.", "Поезд отправляется через десять минут.",
        "東京は日本の首都です。", "القاهرة هي عاصمة مصر.", "Great job!!! 🎉🎉 See you at 🏔️ 👩‍🚀",
        "def add(a, b):\n    return a + b  # sum", "3.14159 1,000,000 -40 °C", "supercalifragilistic" * 3,
        "two  spaces   and\u00a0nbsp\tand tab", "ﬁne ㎏ ① Å \uff46\uff55\uff4c\uff4c", "double\n\nnewline\n",
        "written [PAD] out [SEP] and [MASK]", "written <pad> out </s> and <s>", "a <ent> and foo<ent>bar",
        "written <|endoftext|> and<|im_end|> out", "written <eos> and<bos> out <|end_of_text|>",
    )  # fmt: skip
    ladder = [" ".join(random.choice(_WORDS, count)) for count in (2, 3, 5, 9, 17, 30)]
    return (*odd, *ladder, " ".join(random.choice(_WORDS, 700)))


def _corpus() -> list[str]:
    random = np.random.default_rng(3)
    lines = [" ".join(random.choice(_WORDS, int(random.integers(3, 25)))) for _ in range(200)]
    return lines + ["".join(map(chr, range(32, 127)))] * 3


def _wordpiece(
    specials: Sequence[str] = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), *, lowercase: bool = True
) -> Tokenizer:
    library = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=100))
    library.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    library.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=_SIZE, special_tokens=list(specials), show_progress=False)
    library.train_from_iterator(_corpus(), trainer)
    return library


def _roberta(specials: Sequence[str] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")) -> Tokenizer:
    library = Tokenizer(models.BPE())
    library.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=list(specials), show_progress=False, initial_alphabet=_BYTES
    )
    library.train_from_iterator(_corpus(), trainer)
    return library


def _modernbert() -> Tokenizer:
    library = _roberta(("[UNK]", "[PAD]", "[CLS]", "[SEP]", "[MASK]"))
    library.normalizer = normalizers.NFC()
    return library


def _unigram(specials: Sequence[str] = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")) -> Tokenizer:
    library = Tokenizer(models.Unigram())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    library.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=_SIZE, special_tokens=list(specials), unk_token="<unk>", show_progress=False
    )
    library.train_from_iterator(_corpus(), trainer)
    return library


def _byte_bpe(pattern: str, specials: Sequence[str], *, nfc: bool) -> Tokenizer:
    library = Tokenizer(models.BPE())
    if nfc:
        library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=_SIZE, show_progress=False, initial_alphabet=_BYTES)
    library.train_from_iterator(_corpus(), trainer)
    library.add_special_tokens([AddedToken(each, special=True, normalized=False) for each in specials])
    return library


def _sentencepiece_bpe(specials: Sequence[str], *, gemma: bool) -> Tokenizer:
    """SentencePiece BPE with byte fallback."""
    library = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if gemma:
        library.normalizer = normalizers.Replace(" ", "▁")
        library.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    else:
        library.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(
        vocab_size=_SIZE, special_tokens=list(specials), show_progress=False, max_token_length=12
    )
    library.train_from_iterator(_corpus(), trainer)
    content = json.loads(library.to_str())
    vocabulary = content["model"]["vocab"]
    for value in range(256):
        vocabulary.setdefault(f"<0x{value:02X}>", len(vocabulary))
    return Tokenizer.from_str(json.dumps(content))


#: Kind -> what trains it.
KINDS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": _wordpiece,
    "cased wordpiece": lambda: _wordpiece(lowercase=False),
    "mpnet wordpiece": lambda: _wordpiece(("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")),
    "roberta": _roberta,
    "modernbert": _modernbert,
    "xlm-roberta": _unigram,
    "t5": lambda: _unigram(("<pad>", "</s>", "<unk>")),
    "qwen": lambda: _byte_bpe(_QWEN, ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), nfc=True),
    "llama3": lambda: _byte_bpe(_LLAMA3, ("<|begin_of_text|>", "<|end_of_text|>"), nfc=False),
    "llama2": lambda: _sentencepiece_bpe(("<unk>", "<s>", "</s>"), gemma=False),
    "gemma": lambda: _sentencepiece_bpe(("<pad>", "<eos>", "<bos>", "<unk>"), gemma=True),
}


@cache
def _trained(kind: str) -> str:
    return str(KINDS[kind]().to_str())


def vocabulary_size(files: TokenizerFiles) -> int:
    """Rows that the network's table of embeddings needs."""
    return int(Tokenizer.from_str(_trained(files.kind)).get_vocab_size())


def write_tokenizer(files: TokenizerFiles, directory: Path) -> None:
    """tokenizer.json, tokenizer_config.json, and vocab.txt of a WordPiece, as the hub has them."""
    content = json.loads(_trained(files.kind))
    content["post_processor"] = _post_processor(files, content)
    write(directory, "tokenizer.json", content | dict(files.parts))
    if files.settings is not None:
        write(directory, "tokenizer_config.json", files.settings)
    if content["model"]["type"] == "WordPiece":
        vocabulary = content["model"]["vocab"]
        rows = "".join(f"{piece}\n" for piece in sorted(vocabulary, key=vocabulary.get))
        (directory / "vocab.txt").write_text(rows)


def _post_processor(files: TokenizerFiles, content: dict[str, Any]) -> dict[str, Any] | None:
    if files.template is None:
        return None
    ids = _ids(content)
    parts: list[dict[str, Any]] = []
    specials: dict[str, Any] = {}
    for part in files.template.split():
        if part == "$A":
            parts.append({"Sequence": {"id": "A", "type_id": 0}})
        else:
            parts.append({"SpecialToken": {"id": part, "type_id": 0}})
            specials[part] = {"id": part, "ids": [ids[part]], "tokens": [part]}
    pair = [*parts, {"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": parts, "pair": pair, "special_tokens": specials}


def _ids(content: dict[str, Any]) -> dict[str, int]:
    vocabulary = content["model"]["vocab"]
    pieces = (
        dict(vocabulary)
        if isinstance(vocabulary, dict)
        else {piece: row for row, (piece, _) in enumerate(vocabulary)}
    )
    return pieces | {token["content"]: token["id"] for token in content["added_tokens"]}
