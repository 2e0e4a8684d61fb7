"""A model that has only its vocabulary gets a tokenizer.json from the transformers library, in the cache."""

import json
import random
import string
from pathlib import Path

import pytest
from support.tokenizer_directories import FAMILIES, TEXTS

from producer.errors import ModelError
from worker.reference_texts import golden_texts
from worker.tokenization.conversion import tokenizer_json
from worker.tokenization.tokenizer import Tokenizer


def only_vocabulary(directory: Path) -> list[list[int]]:
    """Replace tokenizer.json by the files it may be made from; the ids that it gave for TEXTS."""
    path = directory / "tokenizer.json"
    tokens = Tokenizer(directory, max_tokens=64).ids(TEXTS)
    model = json.loads(path.read_text())["model"]
    if model["type"] == "WordPiece":
        names = sorted(model["vocab"], key=model["vocab"].__getitem__)
        (directory / "vocab.txt").write_text("\n".join(names) + "\n")
    else:
        (directory / "vocab.json").write_text(json.dumps(model["vocab"]))
        lines = (merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"])
        (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n")
    path.unlink()
    return [tokens.ids[tokens.offsets[at] : tokens.offsets[at + 1]].tolist() for at in range(len(tokens))]


@pytest.mark.peers
@pytest.mark.parametrize("family", ["bert", "mpnet", "roberta", "qwen2"])
def test_a_vocabulary_gives_the_ids_of_its_tokenizer(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made once, kept in the cache, and never written into the model's directory."""
    model, cache = FAMILIES[family](tmp_path / "model"), tmp_path / "cache"
    expected = only_vocabulary(model)
    before = sorted(path.name for path in model.iterdir())
    for _ in range(2):
        tokens = Tokenizer(model, max_tokens=64, cache=cache).ids(TEXTS)
        rows = [tokens.ids[tokens.offsets[at] : tokens.offsets[at + 1]].tolist() for at in range(len(tokens))]
        assert rows == expected
        monkeypatch.setenv("PATH", "")  # nothing is asked a second time
        monkeypatch.setattr("sys.executable", "/nonexistent")
    assert sorted(path.name for path in model.iterdir()) == before
    assert len(list((cache / "tokenizers").iterdir())) == 1


@pytest.mark.peers
def test_another_vocabulary_is_converted_again(tmp_path: Path) -> None:
    """The cache is found by the content of all files that matter."""
    model, cache = FAMILIES["bert"](tmp_path / "model"), tmp_path / "cache"
    only_vocabulary(model)
    first = tokenizer_json(model, cache=cache)
    vocabulary = (model / "vocab.txt").read_text()
    (model / "vocab.txt").write_text(vocabulary + "another\n")
    assert tokenizer_json(model, cache=cache) != first
    assert len(list((cache / "tokenizers").iterdir())) == 2


#: File, class of the tokenizer, and how sentencepiece trains such a model
SENTENCEPIECE = {
    "xlm-roberta": (
        "sentencepiece.bpe.model",
        "XLMRobertaTokenizer",
        {"model_type": "unigram", "vocab_size": 600, "unk_id": 0, "bos_id": 1, "eos_id": 2},
    ),
    "t5": (
        "spiece.model",
        "T5Tokenizer",
        {"model_type": "unigram", "vocab_size": 600, "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
    ),
    "llama": (
        "tokenizer.model",
        "LlamaTokenizer",
        {
            "model_type": "bpe",
            "vocab_size": 600,
            "byte_fallback": True,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
        },
    ),
}


@pytest.mark.peers
@pytest.mark.timeout(180)
@pytest.mark.parametrize("family", sorted(SENTENCEPIECE))
def test_a_sentencepiece_model_splits_texts_as_sentencepiece_does(family: str, tmp_path: Path) -> None:
    """Also texts that begin with a space, where transformers 5 itself differs from sentencepiece."""
    sentencepiece = pytest.importorskip("sentencepiece")
    name, kind, how = SENTENCEPIECE[family]
    # Besides texts, words of letters that differ in frequency: no two ways to split a text are as good.
    letters = random.Random(0)
    words = [
        "".join(letters.choices(string.ascii_letters, weights=range(1, 53), k=letters.randrange(2, 9)))
        for _ in range(3000)
    ]
    lines = [*(text.replace("\n", " ") for text in (*golden_texts(64), *TEXTS * 20)), " ".join(words)]
    (tmp_path / "texts").write_text("\n".join(line for line in lines if line.strip()))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"),
        model_prefix=str(tmp_path / "made"),
        hard_vocab_limit=False,
        minloglevel=2,
        **how,
    )
    (tmp_path / "made.model").rename(tmp_path / name)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": kind, "extra_ids": 0}))
    original = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / name))
    tokenizer = Tokenizer(tmp_path, max_tokens=64)
    names = tokenizer.vocabulary()
    for text in ("Sediment cores, the delta", "  two  spaces", " ", "naïve café"):
        found = [names[at] for at in tokenizer.ids([text]).ids.tolist()]
        inner = [token for token in found if token not in ("<s>", "</s>")]
        assert inner == original.encode(text, out_type=str), text


def test_no_vocabulary_or_no_library_is_an_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The extra that brings the library, or saving the model again."""
    with pytest.raises(ModelError, match=r"no tokenizer\.json; save the model"):
        tokenizer_json(tmp_path, cache=None)
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    monkeypatch.setattr("worker.tokenization.conversion.is_peer_installed", lambda: False)
    with pytest.raises(ModelError, match=r"has vocab\.txt but no tokenizer\.json.*embedmill\[convert\]"):
        tokenizer_json(tmp_path, cache=None)
