"""A sentence-transformers LayerNorm module: a norm of the whole vector."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError
from worker.models.checkpoint import weight_files
from worker.models.config_file import read_object
from worker.models.keys.modules import check_module_keys
from worker.models.safetensors_reader import SafetensorsFile

LAYER_NORM_EPSILON = 1e-5  #: torch's default, which sentence-transformers does not change


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerNorm:
    """y = (x - mean) / deviation * weight + bias; `directory` contains weight and bias."""

    size: int
    directory: Path


def read_layer_norm(directory: Path) -> LayerNorm:
    """The norm described in `directory`; its weights are not read. Raises ModelError."""
    config = read_object(directory / "config.json")
    check_module_keys(config, "LayerNorm", file=f"{directory.name}/config.json")
    size = config.get("dimension")
    if type(size) is not int or size <= 0:
        raise ModelError(f"{directory.name} has dimension {size!r:.60}; a positive integer is expected")
    weight_files(directory)
    return LayerNorm(size=size, directory=directory)


def layer_norm_weights(norm: LayerNorm) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """float32 weight and bias (size,). Raises ModelError naming a tensor that is wrong."""
    file = SafetensorsFile(weight_files(norm.directory)[0])
    if set(file.names) != {"norm.weight", "norm.bias"}:
        raise ModelError(
            f"{norm.directory.name} has the tensors {file.names}, expected norm.weight and norm.bias"
        )
    for name in file.names:
        if file.shape(name) != (norm.size,):
            raise ModelError(
                f"tensor {name} of {norm.directory.name} has shape {file.shape(name)}, not {(norm.size,)}"
            )
    return file.read("norm.weight"), file.read("norm.bias")
