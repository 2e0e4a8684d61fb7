"""Directories of StaticEmbedding models, as sentence-transformers and as model2vec write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from safetensors.numpy import save_file

from support.custom_graphs import MINILM
from support.model_directory import write

Array = npt.NDArray[Any]
OLD, NEW = (
    "sentence_transformers.models.",
    "sentence_transformers.sentence_transformer.modules.",
)
SIZE = 24
NUM_TOKENS = 30_522


def random_table(rows: int = NUM_TOKENS, *, size: int = SIZE) -> Array:
    """Always the same."""
    return np.random.default_rng(8).standard_normal((rows, size)).astype(np.float32)


def save_static(
    directory: Path,
    tensors: dict[str, Array],
    *,
    place: str = "",
    modules: str | None = OLD,
    normalize: bool = True,
    truncation: int | None = None,
    config: dict[str, Any] | None = None,
) -> Path:
    """A model with these tensors and MiniLM's tokenizer in the folder `place`.

    `modules` is what precedes the class names in modules.json; None writes none. `truncation` is what
    tokenizer.json truncates to.
    """
    folder = directory / place
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    tokenizer = json.loads((MINILM / "tokenizer.json").read_text())
    tokenizer["truncation"] = truncation and (tokenizer["truncation"] | {"max_length": truncation})
    write(folder, "tokenizer.json", tokenizer)
    if config is not None:
        write(folder, "config.json", config)
    if modules is not None:
        kinds = [("StaticEmbedding", place), *([("Normalize", "1_Normalize")] if normalize else [])]
        rows = [
            {"idx": index, "name": str(index), "path": path, "type": modules + kind}
            for index, (kind, path) in enumerate(kinds)
        ]
        write(directory, "modules.json", rows)
    return directory


def token_ids(text: str) -> Array:
    """The ids of a text without special tokens, by the library, not truncated."""
    from tokenizers import Tokenizer

    library = Tokenizer.from_file(str(MINILM / "tokenizer.json"))
    library.no_truncation()
    library.no_padding()
    return np.array(library.encode(text, add_special_tokens=False).ids)
