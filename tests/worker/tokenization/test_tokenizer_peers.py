"""Every switch of every family of tokenizers changes the token ids just as in the transformers library."""

from pathlib import Path
from typing import Any

import pytest
from support.tokenizer_directories import FAMILIES, TEXTS

from worker.tokenization.peer_process import PeerAnswer, PeerRequest, answer_request
from worker.tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.peers

_TAG = {"content": "<tag>", "lstrip": True, "rstrip": False, "normalized": False, "special": False}
SWITCHES: dict[str, dict[str, Any]] = {
    "none": {},
    "cased": {"do_lower_case": False},
    "lowered": {"do_lower_case": True},
    "accents": {"strip_accents": False},
    "no accents": {"strip_accents": True, "do_lower_case": False},
    "chinese together": {"tokenize_chinese_chars": False},
    "prefix space": {"add_prefix_space": True},
    "begin and end": {"add_bos_token": True, "add_eos_token": True},
    "end": {"add_eos_token": True},
    "no begin": {"add_bos_token": False},
    "split special": {"split_special_tokens": True},
    "additional": {"additional_special_tokens": ["<tag>"]},
    "named": {"extra_special_tokens": {"tag_token": "<tag>"}},
    "mask": {"mask_token": "<tag>"},
}
#: Switches, and the families of which they change the ids of TEXTS in transformers 5.
CHANGES = {
    "cased": {"bert", "distilbert", "mpnet"},
    "accents": {"bert", "distilbert", "mpnet"},
    "no accents": {"bert", "distilbert", "mpnet"},
    "chinese together": {"bert", "distilbert", "mpnet"},
    "prefix space": {"roberta", "qwen2"},
    "split special": set(FAMILIES),
    "additional": set(FAMILIES),
    "named": set(FAMILIES),
    "mask": set(FAMILIES),
}
WRITTEN = "a <tag>b [SEP] <pad> [PAD] </s><s> <bos> <|endoftext|> end"


def asked(directory: Path) -> tuple[PeerAnswer, tuple[str, ...]]:
    texts = (*TEXTS, WRITTEN)
    answer = answer_request(PeerRequest(directory=str(directory), texts=texts))
    assert not answer.failure, answer.failure
    return answer, texts


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_each_switch_changes_the_ids_as_in_transformers(family: str, tmp_path: Path) -> None:
    """In the installed version, by its rules; a switch that changes nothing there changes nothing here."""
    before: list[list[int]] = []
    for name, settings in SWITCHES.items():
        directory = FAMILIES[family](tmp_path / name, **settings)
        answer, texts = asked(directory)
        major = int(answer.version.partition(".")[0])
        ours = Tokenizer(directory, max_tokens=64).ids_of(texts, major=major)
        rows = [ours.ids[ours.offsets[at] : ours.offsets[at + 1]].tolist() for at in range(len(texts))]
        assert rows == [list(ids) for ids in answer.ids], (family, name)
        before = before or rows
        if major == 5 and name in CHANGES:
            assert (rows != before) is (family in CHANGES[name]), (family, name)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_class_without_rules_uses_tokenizer_json_as_it_is(family: str, tmp_path: Path) -> None:
    """In transformers too, with which files are compared where another version builds its tokenizer anew."""
    directory = FAMILIES[family](tmp_path, do_lower_case=False, extra_special_tokens={"tag_token": "<tag>"})
    answer, texts = asked(directory)
    major = int(answer.version.partition(".")[0])
    ours = Tokenizer(directory, max_tokens=64).ids_of(texts, major=major, plain=True)
    rows = [ours.ids[ours.offsets[at] : ours.offsets[at + 1]].tolist() for at in range(len(texts))]
    assert rows == [list(ids) for ids in answer.plain_ids]
