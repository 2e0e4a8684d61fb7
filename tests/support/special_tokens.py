"""Sentence-transformers directories of random networks, with a tokenizer that knows special tokens."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

from support.model_directory import write
from support.random_networks import random_network

_SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
_NAMES = {"bos": "<s>", "cls": "<s>", "pad": "<pad>", "eos": "</s>", "sep": "</s>", "mask": "<mask>"}


def write_st_directory(
    path: Path,
    family: tuple[str, dict[str, Any]],
    *,
    pooling: str = "mean",
    max_tokens: int = 100,
    transformer: str = "",
    then: Sequence[str] = (),
) -> Any:
    """A random network of that family with words w0 to w294, `<pad>` being 1; returns the network.

    It lies in the folder `transformer`. `then` lists the modules after the pooling.
    """
    folder = path / transformer
    folder.mkdir(parents=True, exist_ok=True)
    network = random_network(*family, folder)
    vocabulary = [*_SPECIALS, *(f"w{number}" for number in range(295))]
    tokenizer = Tokenizer(models.WordLevel({word: row for row, word in enumerate(vocabulary)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.add_special_tokens(_SPECIALS)
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {f"{name}_token": token for name, token in _NAMES.items()}
    write(folder, "tokenizer_config.json", names | {"tokenizer_class": "PreTrainedTokenizerFast"})
    write(folder, "sentence_bert_config.json", {"max_seq_length": max_tokens, "do_lower_case": False})
    kinds = {transformer: "Transformer", "1_Pooling": "Pooling"}
    kinds |= {f"{index}_{kind}": kind for index, kind in enumerate(then, start=2)}
    modules = [
        {"idx": index, "name": str(index), "path": place, "type": f"sentence_transformers.models.{kind}"}
        for index, (place, kind) in enumerate(kinds.items())
    ]
    write(path, "modules.json", modules)
    write(path, "1_Pooling/config.json", {"word_embedding_dimension": 64, "pooling_mode": pooling})
    for place in kinds:
        (path / place).mkdir(exist_ok=True)
    return network
