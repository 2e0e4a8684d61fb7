"""Texts chosen to make tokenizers differ, and the comparison of two engines on them."""

import random
from collections.abc import Iterator, Sequence

import numpy as np

from worker.tokenization.engines import Engine

_BATCH_TEXTS = 64
_MAX_PIECES = 4096
_ALL_BELOW = 0x3100  # below, every character (the alphabets); beyond, samples of large, uniform blocks
_SAMPLE_STEP, _SAMPLE_END = 13, 0x20000
_ODD = (
    "",
    " ",
    "\t\r\n \x0b\x0c",
    "nul\0inside \x01\x7f\x80\x9f\x85 controls",
    "e\u0301 e\u0300\u0323 \u0301alone \u1e9b\u0323 \u212b \u00c5 A\u030a",
    "zero\u200bwidth\u200cjoin\u200der\u2060 \ufeffmark so\u00adft",
    "no\u00a0break\u2007space\u202fnarrow\u3000wide\u2028line\u2029para",
    "\u0130stanbul I\u0131 STRASSE stra\u00dfe \u1e9e \ufb01ne \u03a3\u03b1\u03c2 \u03a3",
    "日本語と中文 한국어 각 \u1100\u1161\u11a8 \uff46\uff55\uff4c\uff4c ㎏ ①",
    "مرحبا بالعالم שָׁלוֹם नमस्ते ภาษาไทย",
    "👩‍🚀👨‍👩‍👧‍👦 🏔️ 🇮🇸 ☺︎ ☺️ 1️⃣",
    "!!!...---???''\"\"``~~ a.b,c;d:e(f)g[h]i{j}k",
    "##ing ##a a##b # #",
    "don't can't 3.14 1,000 x86_64 C++ a/b\\c https://example.org/?q=1&r=%20#top",
    "\U0001d518\U0001d52b\U0001d526 \U00020000\U0002a6d6 \uffff \ufffd \U0010ffff",
)


def first_difference(
    one: Engine, other: Engine, *, special: Sequence[str], vocabulary: Sequence[str]
) -> str | None:
    """The first text on which the engines disagree, escaped as ASCII; None if there is none.

    `special` tokens and pieces of the vocabulary are tried inside texts.
    """
    texts = list(difficult_texts(special, vocabulary))
    for start in range(0, len(texts), _BATCH_TEXTS):
        batch = texts[start : start + _BATCH_TEXTS]
        left, right = one(batch), other(batch)
        if np.array_equal(left.ids, right.ids) and np.array_equal(left.offsets, right.offsets):
            continue
        for text in batch:
            if not np.array_equal(one([text]).ids, other([text]).ids):
                return ascii(text)[:200]
        return "a batch of texts that agree one by one"
    return None


def difficult_texts(special: Sequence[str], vocabulary: Sequence[str]) -> tuple[str, ...]:
    """About a thousand texts: every kind of character, special tokens, and pieces of the vocabulary."""
    return (
        *odd_texts(special),
        *_long_words(),
        *_every_character(),
        *_mixtures(special),
        *_words(vocabulary),
    )


def odd_texts(special: Sequence[str]) -> tuple[str, ...]:
    """The few texts of these that show most: odd characters, and the special tokens written out."""
    written = [
        text
        for token in special
        for text in (token, f"a{token}b {token} {token.lower()}{token}, \u0301{token}\u0301")
    ]
    return (*_ODD, *written)


def _long_words() -> Iterator[str]:
    for size in (99, 100, 101, 200, 5000):  # WordPiece gives up on words of more than 100 characters
        yield "x" * size
        yield "é" * size + " " + "ab1" * (size // 3)


def _words(vocabulary: Sequence[str]) -> Iterator[str]:
    """Pieces of the vocabulary, separate and run together: the latter need the longest match."""
    step = max(1, len(vocabulary) // _MAX_PIECES)
    pieces = [piece.removeprefix("##") for piece in sorted(vocabulary)[::step]]
    for start in range(0, len(pieces), _BATCH_TEXTS):
        part = pieces[start : start + _BATCH_TEXTS]
        yield " ".join(part)
        yield " ".join("".join(part[at::16]) for at in range(16))


def _every_character() -> Iterator[str]:
    """Each character inside a word and alone: there it shows whether it separates, joins or vanishes."""
    codes = [*range(_ALL_BELOW), *range(_ALL_BELOW, _SAMPLE_END, _SAMPLE_STEP)]
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    for start in range(0, len(characters), _BATCH_TEXTS):
        yield " ".join(f"a{one}b {one}" for one in characters[start : start + _BATCH_TEXTS])


def _mixtures(special: Sequence[str], count: int = 500) -> Iterator[str]:
    """Characters of all kinds side by side; identical in every run."""
    choose = random.Random(0)
    ranges = ((0x20, 0x7F), (0, 0x20), (0xA0, 0x370), (0x300, 0x370), (0x370, 0x600), (0x4E00, 0x4F00))
    kinds = [[chr(code) for code in range(*ends)] for ends in (*ranges, (0x1F300, 0x1F700), (0x2000, 0x2070))]
    kinds += [[" ", "\n", "ing", "##", "The"], list(special) or [" "]]
    for _ in range(count):
        yield "".join(choose.choice(choose.choice(kinds)) for _ in range(choose.randrange(1, 60)))
