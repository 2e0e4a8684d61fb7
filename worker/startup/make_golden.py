"""Computes golden vectors with sentence-transformers in fp32.

    python -m worker.startup.make_golden DIR -o FILE

A tool for whoever adds a model. It needs torch and sentence-transformers (extra `peers`); workers do not.
"""

import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from worker.models.model import read_model
from worker.reference_texts import golden_texts
from worker.startup.golden import golden_fields


def embed(directory: Path, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """What sentence-transformers gives for the texts, one at a time, on the CPU: float32 (n, dim)."""
    import torch
    from sentence_transformers import SentenceTransformer

    # Said aloud, because transformers otherwise computes in whatever type the checkpoint is stored.
    reference = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})
    # Alone, so that no rounding of a neighbour's padding gets in.
    vectors: npt.NDArray[np.float32] = reference.encode(list(texts), batch_size=1, show_progress_bar=False)
    return vectors


def golden(directory: Path) -> dict[str, Any]:
    """The golden file's content."""
    model = read_model(directory)
    texts = golden_texts(model.max_text_tokens)
    vectors = embed(directory, texts)
    made_with = ("sentence-transformers", "transformers", "torch", "tokenizers")
    return {
        "model": directory.resolve().name,
        "revision": model.revision,
        "made_with": {name: version(name) for name in made_with},
        "texts": list(texts),
        **golden_fields(vectors),
    }


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--name", help="The model's name to write down, if the directory's name is another.")
def main(directory: Path, output: Path, name: str | None) -> None:
    """Write golden vectors of the model in DIRECTORY, made with sentence-transformers in fp32."""
    content = golden(directory) | ({"model": name} if name else {})
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
