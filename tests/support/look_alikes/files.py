"""Changes to a model's files after they are written: what the hub's repositories have or lack."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.look_alikes.layout import Change
from support.model_directory import write

WEIGHTS = "model.safetensors"


def lacks(*names: str) -> Change:
    """Without these files."""

    def change(directory: Path) -> None:
        for name in names:
            (directory / name).unlink()

    return change


def has(name: str, content: Any) -> Change:
    """With a JSON file."""
    return lambda directory: write(directory, name, content)


def has_bytes(name: str, content: bytes) -> Change:
    """With another file."""

    def change(directory: Path) -> None:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)

    return change


def moved(source: str, target: str) -> Change:
    """With a file in another place."""

    def change(directory: Path) -> None:
        (directory / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(directory / source, directory / target)

    return change


def tensors(rewrite: Callable[[dict[str, Any]], dict[str, Any]], folder: str = "") -> Change:
    """With other tensors in the weights."""

    def change(directory: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = directory / folder / WEIGHTS
        found = rewrite(load_file(path))
        save_file({name: each.contiguous() for name, each in found.items()}, path, metadata={"format": "pt"})

    return change


def old_names(found: dict[str, Any]) -> dict[str, Any]:
    """As checkpoints converted from TensorFlow have them."""
    pairs = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
    renamed = {}
    for name, each in found.items():
        for new, old in pairs:
            name = name.replace(new, old)  # noqa: PLW2901
        renamed[name] = each
    return renamed


def extra_tensor(name: str, *shape: int, integers: bool = False) -> Change:
    """With one more tensor, such as another task's head."""

    def rewrite(found: dict[str, Any]) -> dict[str, Any]:
        import torch

        return found | {name: torch.zeros(shape, dtype=torch.int64 if integers else torch.float32)}

    return tensors(rewrite)


def prefixed(prefix: str) -> Change:
    """With a prefix before the name of every tensor."""
    return tensors(lambda found: {prefix + name: each for name, each in found.items()})


def stored_as(dtype: str) -> Change:
    """With weights of another number format."""

    def rewrite(found: dict[str, Any]) -> dict[str, Any]:
        import torch

        return {name: each.to(getattr(torch, dtype)) for name, each in found.items()}

    return tensors(rewrite)


def pickled(directory: Path) -> None:
    """With pytorch_model.bin instead of safetensors."""
    import torch
    from safetensors.torch import load_file

    for path in sorted(directory.rglob(WEIGHTS)):
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()


def sharded(directory: Path) -> None:
    """With the weights in two files and an index."""
    from safetensors.torch import load_file, save_file

    found = load_file(directory / WEIGHTS)
    names = sorted(found)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for name, part in parts.items():
        save_file({each: found[each] for each in part}, directory / name, metadata={"format": "pt"})
    index = {each: name for name, part in parts.items() for each in part}
    write(directory, f"{WEIGHTS}.index.json", {"metadata": {"total_size": 1}, "weight_map": index})
    (directory / WEIGHTS).unlink()


def config_key(name: str, key: str, value: Any) -> Change:
    """With another value in a JSON file."""

    def change(directory: Path) -> None:
        write(directory, name, json.loads((directory / name).read_text()) | {key: value})

    return change


def model_key(key: str, value: Any) -> Change:
    """With another value in the model of tokenizer.json."""

    def change(directory: Path) -> None:
        content = json.loads((directory / "tokenizer.json").read_text())
        write(directory, "tokenizer.json", content | {"model": content["model"] | {key: value}})

    return change


def split_vocabulary(directory: Path) -> None:
    """With vocab.json and merges.txt beside tokenizer.json."""
    model = json.loads((directory / "tokenizer.json").read_text())["model"]
    write(directory, "vocab.json", model["vocab"])
    merges = [each if isinstance(each, str) else " ".join(each) for each in model["merges"]]
    (directory / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")


def saved_again(directory: Path) -> None:
    """As the installed sentence-transformers writes a model that it has read."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(directory), device="cpu", local_files_only=True)
    shutil.rmtree(directory)
    model.save(str(directory), create_model_card=False)
