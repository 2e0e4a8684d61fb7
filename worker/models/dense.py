"""A sentence-transformers Dense module: a linear layer after pooling."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError
from worker.models.checkpoint import weight_files
from worker.models.config_file import read_object
from worker.models.safetensors_reader import SafetensorsFile

_ACTIVATIONS = {
    "torch.nn.modules.linear.Identity": "identity",
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.activation.SiLU": "silu",
    "torch.nn.modules.activation.Sigmoid": "sigmoid",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """y = activation(x @ weight.T + bias); `directory` contains weight and bias."""

    in_features: int
    out_features: int
    bias: bool
    activation: str
    directory: Path


def read_dense(directory: Path) -> Dense:
    """The layer described in `directory`; its weights are not read. Raises ModelError."""
    config = read_object(directory / "config.json")
    source = config.get("module_input_name", "sentence_embedding")
    if source != "sentence_embedding" or config.get("module_output_name") not in (None, source):
        raise ModelError(
            f"{directory.name} does not transform the sentence embedding, which is not supported"
        )
    if config.get("use_residual"):
        raise ModelError(f"{directory.name} is a Dense layer with use_residual, which is not supported")
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in _ACTIVATIONS:
        raise ModelError(
            f"{directory.name} has the activation {activation!r:.80}; supported are "
            + ", ".join(_ACTIVATIONS)
        )
    sizes = config.get("in_features"), config.get("out_features")
    if not all(type(size) is int and size > 0 for size in sizes):
        raise ModelError(
            f"{directory.name} has in_features, out_features {sizes!r:.80}; positive integers are expected"
        )
    weight_files(directory)
    return Dense(
        in_features=config["in_features"],
        out_features=config["out_features"],
        bias=bool(config.get("bias", True)),
        activation=_ACTIVATIONS[activation],
        directory=directory,
    )


def dense_weights(dense: Dense) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
    """float32 weight (out, in) and bias (out,). Raises ModelError naming a tensor that is wrong."""
    file = SafetensorsFile(weight_files(dense.directory)[0])
    expected: dict[str, tuple[int, ...]] = {"linear.weight": (dense.out_features, dense.in_features)}
    if dense.bias:
        expected["linear.bias"] = (dense.out_features,)
    if set(file.names) != set(expected):
        raise ModelError(f"{dense.directory.name} has the tensors {file.names}, expected {list(expected)}")
    for name, shape in expected.items():
        if file.shape(name) != shape:
            raise ModelError(
                f"tensor {name} of {dense.directory.name} has shape {file.shape(name)}, not {shape}"
            )
    return file.read("linear.weight"), file.read("linear.bias") if dense.bias else None
