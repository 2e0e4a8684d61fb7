"""A tokenizer's files are read as transformers reads them, and a text without a usable token fails alone."""

import json
from pathlib import Path
from typing import Any

import pytest
from support.tokenizer_directories import FAMILIES
from tokenizers import Tokenizer as Library

from producer.contract import Truncate
from producer.errors import ModelError
from worker.tokenization.tokenizer import Tokenizer

MADE_WITH_5 = {"backend": "tokenizers"}


def tokens(directory: Path, text: str, **how: Any) -> list[str]:
    """The text's tokens as strings; `how` says more about the model."""
    tokenizer = Tokenizer(directory, max_tokens=64, **how)
    names = tokenizer.vocabulary()
    return [names[at] for at in tokenizer.ids([text]).ids.tolist()]


def change(directory: Path, name: str, **entries: Any) -> None:
    """Add entries to a JSON file, which may not exist."""
    path = directory / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | entries))


def inner(found: list[str]) -> str:
    return " ".join(found[1:-1])


@pytest.mark.parametrize("family", ["bert", "distilbert", "mpnet"])
@pytest.mark.parametrize(
    ("settings", "text", "expected"),
    [
        ({}, "PARIS café", "paris cafe"),
        ({"do_lower_case": False}, "PARIS paris", "[UNK] paris"),
        ({"strip_accents": False}, "café", "café"),
        ({"do_lower_case": False, "strip_accents": True}, "café", "cafe"),
    ],
)
def test_the_settings_decide_case_and_accents(
    family: str, settings: dict[str, Any], text: str, expected: str, tmp_path: Path
) -> None:
    """Of BERT's relatives, whatever tokenizer.json says; where they are silent, the defaults of the class."""
    FAMILIES[family](tmp_path, **settings)
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    file["normalizer"] |= {"lowercase": not settings.get("do_lower_case", True), "strip_accents": None}
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    assert inner(tokens(tmp_path, text)).replace("P ##AR ##IS", "[UNK]") == expected


def test_bert_lowers_by_default_even_if_no_file_says_so(tmp_path: Path) -> None:
    """As transformers does where tokenizer_config.json is missing; config.json then names the family."""
    FAMILIES["bert"](tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.normalizer.lowercase = False
    library.save(str(tmp_path / "tokenizer.json"))
    assert inner(tokens(tmp_path, "PARIS")) == "paris"


def test_chinese_characters_are_separated_as_the_settings_say(tmp_path: Path) -> None:
    """Not in MPNet by transformers 4, which leaves that to tokenizer.json."""
    apart, together = "foo 日 本 bar", "foo日本bar"
    for family, made_with, wanted in (
        ("bert", {}, together),
        ("mpnet", {}, apart),
        ("mpnet", MADE_WITH_5, together),
    ):
        folder = tmp_path / family / str(len(made_with))
        FAMILIES[family](folder, tokenize_chinese_chars=False, **made_with)
        same = Tokenizer(folder, max_tokens=64).ids([wanted, "foo日本bar"])
        assert same.lengths[0] == same.lengths[1], (family, made_with)


@pytest.mark.parametrize(
    ("family", "settings", "spaced"),
    [
        ("roberta", {}, False),
        ("roberta", {"add_prefix_space": True}, True),
        ("roberta", {"add_prefix_space": True, **MADE_WITH_5}, True),
        ("modernbert", {"add_prefix_space": True}, True),
        ("modernbert", {"add_prefix_space": True, **MADE_WITH_5}, False),
        ("qwen2", {"add_prefix_space": True}, False),
        ("qwen2", {"add_prefix_space": True, **MADE_WITH_5}, True),
        ("xlm-roberta", {"add_prefix_space": False}, True),
        ("xlm-roberta", {"add_prefix_space": False, **MADE_WITH_5}, False),
    ],
)
def test_a_space_is_put_before_a_text_as_the_version_that_made_the_files_does(
    family: str, settings: dict[str, Any], spaced: bool, tmp_path: Path
) -> None:
    """Transformers 4 and 5 read add_prefix_space for different classes."""
    FAMILIES[family](tmp_path, **settings)
    found = "".join(token for token in tokens(tmp_path, "paris") if not token.startswith("<"))
    assert found.startswith(("Ġ", "▁")) is spaced


def test_a_tokenizer_json_alone_is_used_as_it_is(tmp_path: Path) -> None:
    """No class is known whose rules would change it."""
    FAMILIES["modernbert"](tmp_path)
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.pre_tokenizer.add_prefix_space = True
    library.save(str(tmp_path / "tokenizer.json"))
    assert tokens(tmp_path, "paris")[1].startswith("p")
    for name in ("tokenizer_config.json", "config.json"):
        (tmp_path / name).unlink()
    assert tokens(tmp_path, "paris")[1].startswith("Ġ")


@pytest.mark.parametrize(
    ("family", "settings", "begins", "ends"),
    [
        ("mistral", {}, True, False),
        ("mistral", {"add_bos_token": True, "add_eos_token": True}, True, True),
        ("mistral", {"add_bos_token": True, "add_eos_token": True, **MADE_WITH_5}, True, False),
        ("llama", {"add_bos_token": False}, False, False),
        ("gemma", {"add_eos_token": True}, True, True),
        ("qwen2", {"add_eos_token": True}, False, False),
        ("modernbert", {"add_bos_token": False}, True, True),
    ],
)
def test_the_end_token_of_e5_mistral_is_read_where_transformers_4_reads_it(
    family: str, settings: dict[str, Any], begins: bool, ends: bool, tmp_path: Path
) -> None:
    """By the classes that make their template from add_bos_token and add_eos_token; 5 uses tokenizer.json."""
    FAMILIES[family](tmp_path, **settings)
    found = tokens(tmp_path, "paris")
    assert (found[0] in ("<s>", "<bos>"), found[-1] in ("</s>", "<eos>")) == (begins, ends)


@pytest.mark.parametrize(
    ("family", "roles"), [("bert", ("cls_token", "sep_token")), ("xlm-roberta", ("bos_token", "eos_token"))]
)
def test_the_tokens_around_a_text_are_those_of_their_roles_where_transformers_5_takes_them(
    family: str, roles: tuple[str, str], tmp_path: Path
) -> None:
    """Which made the files; version 4 takes those of tokenizer.json."""
    FAMILIES[family](tmp_path)
    before = tokens(tmp_path, "paris")
    first = json.loads((tmp_path / "tokenizer_config.json").read_text())["unk_token"]
    change(tmp_path, "tokenizer_config.json", **{roles[0]: first})
    assert tokens(tmp_path, "paris") == before
    change(tmp_path, "tokenizer_config.json", **MADE_WITH_5)
    assert tokens(tmp_path, "paris") == [first, *before[1:]]


def test_merges_left_out_at_random_are_refused(tmp_path: Path) -> None:
    """BPE dropout is for training: a text would have other tokens each time."""
    FAMILIES["modernbert"](tmp_path)
    file = json.loads((tmp_path / "tokenizer.json").read_text())
    file["model"]["dropout"] = 0.1
    (tmp_path / "tokenizer.json").write_text(json.dumps(file))
    with pytest.raises(ModelError, match=r"leaves out 10% of its merges at random \(BPE dropout\)"):
        Tokenizer(tmp_path, max_tokens=64)


def test_known_code_that_appends_a_token_is_mapped_and_other_code_is_refused(tmp_path: Path) -> None:
    """gte-Qwen2's own tokenizer class appends its end token; neither is run."""
    code = {"auto_map": {"AutoTokenizer": ["tokenization_qwen.Qwen2Tokenizer", None]}, "add_eos_token": True}
    FAMILIES["qwen2"](tmp_path, **code)
    assert tokens(tmp_path, "paris")[-1] == "<|im_end|>"
    change(tmp_path, "tokenizer_config.json", auto_map={"AutoTokenizer": ["tokenization_x.Mine", None]})
    with pytest.raises(ModelError, match=r"'tokenization_x\.Mine', code that comes with the model"):
        Tokenizer(tmp_path, max_tokens=64)


@pytest.mark.parametrize(
    "settings",
    [
        {"additional_special_tokens": ["<tag>"]},
        {"extra_special_tokens": ["<tag>"]},
        {"extra_special_tokens": {"tag_token": "<tag>"}},
        {"added_tokens_decoder": {"999": {"content": "<tag>", "normalized": False, "special": False}}},
        {"mask_token": {"content": "<tag>", "lstrip": False, "__type": "AddedToken"}},
    ],
)
def test_tokens_that_only_the_settings_add_are_found_in_a_text(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    """Each way in which the files state them."""
    FAMILIES["bert"](tmp_path, **settings)
    assert "<tag>" in tokens(tmp_path, "a<tag>b")


def test_files_of_an_older_time_add_tokens_unless_newer_ones_replace_them(tmp_path: Path) -> None:
    """added_tokens.json and special_tokens_map.json are not read beside an added_tokens_decoder."""
    FAMILIES["bert"](tmp_path)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<one>": 700}))
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"additional_special_tokens": ["<two>"]}))
    found = tokens(tmp_path, "<one> <two>")
    assert {"<one>", "<two>"} <= set(found)
    change(tmp_path, "tokenizer_config.json", added_tokens_decoder={})
    assert not {"<one>", "<two>"} & set(tokens(tmp_path, "<one> <two>"))


def test_special_tokens_are_split_if_the_settings_say_so(tmp_path: Path) -> None:
    """By the fast engine too, which is then not used."""
    FAMILIES["bert"](tmp_path / "not")
    assert "[SEP]" in tokens(tmp_path / "not", "a [SEP] b")[1:-1]
    FAMILIES["bert"](tmp_path, split_special_tokens=True)
    assert "[SEP]" not in tokens(tmp_path, "a [SEP] b")[1:-1]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"omits_vowels": True}, "has the key 'omits_vowels', which our tokenizer does not know"),
        ({"fix_mistral_regex": True}, "fix_mistral_regex True"),
        ({"src_lang": "en"}, "src_lang 'en'"),
        ({"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapaneseTokenizer, which transformers"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "does not map ids to tokens"),
        ({"mask_token": 3}, "has a token 3"),
    ],
)
def test_what_may_change_ids_and_is_not_read_is_refused_by_name(
    entries: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Whatever it is."""
    FAMILIES["bert"](tmp_path, **entries)
    with pytest.raises(ModelError, match=message):
        Tokenizer(tmp_path, max_tokens=64)


def test_without_special_tokens_nothing_but_tokenizer_json_is_read(tmp_path: Path) -> None:
    """As StaticEmbedding of sentence-transformers does."""
    FAMILIES["bert"](tmp_path, do_lower_case=False, omits_vowels=True)
    assert tokens(tmp_path, "PARIS", special_tokens=False) == ["paris"]


def test_a_tokenizer_states_the_side_at_which_it_is_truncated(tmp_path: Path) -> None:
    """The settings, else tokenizer.json, else the end. It decides about golden texts, never about jobs."""
    FAMILIES["bert"](tmp_path)
    assert Tokenizer(tmp_path, max_tokens=8).truncate is Truncate.END
    library = Library.from_file(str(tmp_path / "tokenizer.json"))
    library.enable_truncation(8, direction="left")
    library.save(str(tmp_path / "tokenizer.json"))
    assert Tokenizer(tmp_path, max_tokens=8).truncate is Truncate.START
    change(tmp_path, "tokenizer_config.json", truncation_side="right")
    assert Tokenizer(tmp_path, max_tokens=8).truncate is Truncate.END


def test_a_text_without_tokens_is_refused_alone(tmp_path: Path) -> None:
    """Where a tokenizer adds no special tokens, the empty text has none."""
    FAMILIES["qwen2"](tmp_path)
    tokenizer = Tokenizer(tmp_path, max_tokens=8)
    found = tokenizer.encode(["", "paris", "", "paris " * 20], Truncate.NONE)
    assert (set(found.empty), found.kept.tolist(), list(found.too_long)) == ({0, 2}, [1], [3])
    assert found.tokens.ids.tolist() == tokenizer.ids(["paris"]).ids.tolist()
    assert "" not in tokenizer.golden_texts()


@pytest.mark.parametrize("truncate", [Truncate.START, Truncate.END])
def test_a_text_with_a_token_beyond_the_table_is_refused_alone(truncate: Truncate, tmp_path: Path) -> None:
    """Unless truncation cuts that token off; a special token without a row does not fail a boot."""
    FAMILIES["bert"](tmp_path, additional_special_tokens=["<tag>"])
    rows = len(Tokenizer(tmp_path, max_tokens=8).vocabulary()) - 1
    tokenizer = Tokenizer(tmp_path, max_tokens=8, vocab_size=rows)
    far = "paris " * 20
    texts = ["paris", "a <tag>", f"{far} <tag>", f"<tag> {far}", far]
    found = tokenizer.encode(texts, truncate)
    cut = 2 if truncate is Truncate.END else 3
    assert found.no_row == {at: "<tag>" for at in (1, 2, 3) if at != cut}
    assert found.kept.tolist() == [0, cut, 4]
    assert found.truncated.tolist() == [cut, 4]
    alone = [tokenizer.encode([texts[at]], truncate).tokens.ids.tolist() for at in (0, cut, 4)]
    assert found.tokens.ids.tolist() == [token for ids in alone for token in ids]
    assert found.tokens.lengths.tolist() == [len(ids) for ids in alone]
    assert not any("<tag>" in text for text in tokenizer.golden_texts())
    assert any("[PAD]" in text for text in tokenizer.golden_texts())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_golden_texts_have_the_tokenizer_s_own_special_tokens_written_out(
    family: str, tmp_path: Path
) -> None:
    """Padding among them, whose position some backends might count."""
    FAMILIES[family](tmp_path)
    tokenizer = Tokenizer(tmp_path, max_tokens=32)
    padding = json.loads((tmp_path / "tokenizer_config.json").read_text()).get("pad_token", "<pad>")
    assert any(text.startswith(f"{padding} first") for text in tokenizer.golden_texts())
    assert len(tokenizer.encode(tokenizer.golden_texts(), tokenizer.truncate).kept) == len(
        tokenizer.golden_texts()
    )
