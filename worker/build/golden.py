"""Computes golden vectors with sentence-transformers in fp32: `python -m worker.build.golden DIR -o FILE`.

A tool for whoever adds a model. It needs torch and sentence-transformers (extra `peers`); workers do not.
"""

import base64
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt

from worker.model import read_model

_LONG = "Sediment cores from the delta record nine floods in the last two thousand years. " * 40
TEXTS = (
    "",
    " ",
    "\n\t  \n",
    "a",
    "Hello, world!",
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The quantum computer factored a large integer.",
    "What is the capital of Iceland?",
    "Reykjavík is the capital and largest city of Iceland.",
    "Der Zug nach München fährt heute von Gleis fünf ab.",
    "Le château fut détruit pendant la guerre, puis reconstruit à l'identique.",
    "El niño comió tres manzanas antes de irse a la escuela.",
    "Поезд отправляется через десять минут.",
    "東京は日本の首都です。",
    "北京是中华人民共和国的首都。",
    "القاهرة هي عاصمة جمهورية مصر العربية.",
    "Great job!!! 🎉🎉 See you at 🏔️ tomorrow 👩‍🚀",
    "def add(a: int, b: int) -> int:\n    return a + b  # sum of both",
    "SELECT name, COUNT(*) FROM users WHERE age >= 21 GROUP BY name ORDER BY 2 DESC;",
    "3.14159 2.71828 1.41421 -40 °C 99.9 % 1,000,000",
    "supercalifragilisticexpialidocious" * 5,
    "[CLS] special [SEP] tokens [MASK] written [PAD] out",
    _LONG[:600],
    _LONG,
)


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
    """The golden file's content; vectors are base64 of little-endian float32 (n, dim)."""
    vectors = embed(directory, TEXTS)
    made_with = ("sentence-transformers", "transformers", "torch", "tokenizers")
    return {
        "model": directory.resolve().name,
        "revision": read_model(directory).revision,
        "made_with": {name: version(name) for name in made_with},
        "texts": list(TEXTS),
        "dim": vectors.shape[1],
        "vectors": base64.b64encode(vectors.astype("<f4").tobytes()).decode(),
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
