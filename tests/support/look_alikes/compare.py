"""A look-alike's vectors and token ids, by us and by sentence-transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from producer.contract import EmbedOptions, Truncate
from selection import manifest_for
from support.look_alikes.build import build_twin
from support.look_alikes.layout import By, Layout
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.contract import FloatArray, Tokens
from worker.settings import Settings
from worker.startup.custom_manifest import custom_manifest
from worker.startup.loader import ModelBundle, read_bundle

#: The backends that serve each kind of model on the CPU.
BACKENDS = {
    By.OWN: ("onnx", "torch"),
    By.FALLBACK: ("transformers",),
    By.GRAPH: ("onnx",),
    By.STATIC: ("onnx", "torch"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Peer:
    """sentence-transformers with a model in fp32 on the CPU, never with remote code."""

    model: Any

    def ids(self, text: str, prompt: str = "") -> list[int]:
        """The tokens of a text, as they enter the network."""
        module = self.model[0]
        encode = module.preprocess if hasattr(module, "preprocess") else module.tokenize
        found: list[int] = encode([prompt + text])["input_ids"].reshape(-1).tolist()
        return found

    def keeps(self, text: str) -> bool:
        """Whether it embeds the text as it is: before version 6 it removes blanks at both ends."""
        return hasattr(self.model[0], "preprocess") or text == text.strip()

    @property
    def truncate(self) -> Truncate:
        """The side at which it cuts texts that are too long."""
        side = getattr(self.model[0].tokenizer, "truncation_side", "right")
        return Truncate.START if side == "left" else Truncate.END

    def vectors(self, texts: Sequence[str], **options: Any) -> FloatArray:
        """One at a time, so that padding does not change how they are rounded; by default without prompt."""
        options = options or {"prompt": ""}
        found = self.model.encode(list(texts), batch_size=1, show_progress_bar=False, **options)
        return np.asarray(found, np.float32)


def peer(layout: Layout, place: Path) -> Peer:
    """The look-alike below `place`, or its twin, as sentence-transformers loads it."""
    import transformers

    if int(transformers.__version__.partition(".")[0]) < layout.readable_since:
        pytest.skip(f"transformers {transformers.__version__} reads these files otherwise")
    return peer_of(build_twin(layout, place / "twin") if layout.twin else place / "model")


def peer_of(directory: Path) -> Peer:
    """A model as sentence-transformers loads it."""
    import torch
    from sentence_transformers import SentenceTransformer

    types = {"dtype": torch.float32}
    return Peer(SentenceTransformer(str(directory), device="cpu", model_kwargs=types, local_files_only=True))


def opened(directory: Path, by: By = By.OWN) -> ModelBundle:
    """The model as a worker reads it. Raises ModelError."""
    if by is By.GRAPH:
        settings = Settings(custom_model=directory)
        return read_bundle(custom_manifest(directory, model=settings.model), settings)
    settings = Settings(model=str(directory), offline=True)
    return read_bundle(manifest_for(settings.model), settings)


def tokens_of(bundle: ModelBundle, texts: Sequence[str], truncate: Truncate = Truncate.END) -> Tokens:
    """The texts' tokens."""
    return bundle.tokenizer.encode(list(texts), truncate).tokens


def rows(tokens: Tokens) -> list[list[int]]:
    """The ids of each text."""
    ends = tokens.offsets.tolist()
    return [tokens.ids[start:end].tolist() for start, end in pairwise(ends)]


def prompted(bundle: ModelBundle, texts: Sequence[str], **options: Any) -> Tokens:
    """The texts' tokens as a worker makes them of a request with these options."""
    text = bundle.prompts.chosen(EmbedOptions(**options)).text
    encoded = bundle.tokenizer.encode(
        [text + each for each in texts], Truncate.END, num_unpooled=bundle.tokenizer.num_unpooled(text)
    )
    return encoded.tokens


def embedded(bundle: ModelBundle, tokens: Tokens, backend: str) -> FloatArray:
    """The vectors of a backend in fp32 on the CPU, a text at a time."""
    loaded = load_backend(backend, bundle.model, LoadOptions(device="cpu", precision="fp32", num_threads=1))
    try:
        return embed_one_by_one(loaded, tokens)
    finally:
        loaded.close()


def cosines(left: FloatArray, right: FloatArray) -> Any:
    """The cosine of each pair of rows, float64 (n,)."""
    one, other = np.asarray(left, np.float64), np.asarray(right, np.float64)
    return (one * other).sum(axis=1) / (np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1))
