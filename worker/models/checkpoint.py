"""Finds the safetensors files that hold a network's weights, and hashes them."""

import hashlib
from pathlib import Path

from producer.errors import ModelError
from worker.models.config_file import read_object

# Weights of other programs -> what to do.
_FOREIGN = {
    "*.gguf": "GGUF is llama.cpp's; download the safetensors that it was converted from",
    "*.h5": "TensorFlow's weights are not read; load them with from_tf=True and save_pretrained()",
    "*.msgpack": "Flax's weights are not read; load them with from_flax=True and save_pretrained()",
    "*.onnx": "to serve that graph, name it as EMBEDMILL_CUSTOM_MODEL",
    "onnx/*.onnx": "to serve that graph, name it as EMBEDMILL_CUSTOM_MODEL",
}


def weight_files(directory: Path) -> list[Path]:
    """The safetensors files of a directory, sorted by name.

    Raises ModelError if one is missing; for a pickled checkpoint, the error says how to convert it.
    """
    whole, index = directory / "model.safetensors", directory / "model.safetensors.index.json"
    if index.is_file() and not whole.is_file():  # in transformers, too, one file goes before an index
        shards = read_object(index).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise ModelError(f"{index.name} lists no shards; download the model again")
        # File names only: an index must not point outside its directory.
        paths = sorted({directory / Path(str(shard)).name for shard in shards.values()})
    else:
        paths = [whole]
    for path in paths:
        if not path.is_file():
            raise ModelError(_missing(path))
    return paths


def weights_sha256(directory: Path) -> str:
    """SHA-256 in hex over the contents of all weight files in order; for one file, that of the file."""
    digest = hashlib.sha256()
    for path in weight_files(directory):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _missing(path: Path) -> str:
    pickled = sorted(p.name for pattern in ("*.bin", "*.pt", "*.ckpt") for p in path.parent.glob(pattern))
    if pickled:
        return (
            f"{path.parent} has {pickled[0]} but no {path.name}; pickled weights can run code and are never "
            "opened here: `worker convert MODEL OUT` makes a directory with safetensors of them"
        )
    for pattern, advice in _FOREIGN.items():
        for found in sorted(path.parent.glob(pattern)):
            return f"{path.parent} has {found.name} but no {path.name}; {advice}"
    return (
        f"{path.name} is missing from {path.parent}; download the model again, or, if it is published as "
        "pytorch_model.bin only, run `worker convert MODEL OUT` and serve OUT"
    )
