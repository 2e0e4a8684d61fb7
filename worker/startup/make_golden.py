"""Computes golden vectors with sentence-transformers in fp32, to ship with a manifest.

    python -m worker.startup.make_golden DIR -o FILE

For adding a model. Needs torch and sentence-transformers (extra `peers`); workers do not.
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
from worker.startup.golden import golden_fields
from worker.startup.loader import tokenizer_of
from worker.startup.token_ids import golden_ids


def reference_vectors(directory: Path, texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """The texts' vectors by sentence-transformers in fp32, one at a time on the CPU: float32 (n, dim)."""
    import torch
    from sentence_transformers import SentenceTransformer

    # Explicit, because transformers would otherwise compute in the type of the checkpoint.
    reference = SentenceTransformer(str(directory), device="cpu", model_kwargs={"dtype": torch.float32})
    # One text per batch, so that padding does not change how vectors are rounded.
    vectors: npt.NDArray[np.float32] = reference.encode(list(texts), batch_size=1, show_progress_bar=False)
    return vectors


def golden(directory: Path) -> dict[str, Any]:
    """The content of the model's golden file."""
    model = read_model(directory)
    if not model.head.include_prompt:
        raise click.ClickException(
            "the model leaves prompts out of pooling; a worker makes its golden vectors at its first boot"
        )
    tokenizer = tokenizer_of(model)
    texts = tokenizer.golden_texts()
    vectors = reference_vectors(directory, texts)
    made_with = ("sentence-transformers", "transformers", "torch", "tokenizers")
    return {
        "model": directory.resolve().name,
        "revision": model.revision,
        "made_with": {name: version(name) for name in made_with},
        "texts": list(texts),
        **golden_fields(vectors),
        # Without special tokens the tokenizer is the library's own, with nothing of transformers to compare.
        **(
            golden_ids(model.transformer, tokenizer, lower_case=model.do_lower_case)
            if model.special_tokens
            else {}
        ),
    }


@click.command()
@click.argument("directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), required=True)
@click.option("--name", help="Name of the model, if it differs from the directory's.")
def main(directory: Path, output: Path, name: str | None) -> None:
    """Write golden vectors of the model in DIRECTORY, made with sentence-transformers in fp32."""
    content = golden(directory) | ({"model": name} if name else {})
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
