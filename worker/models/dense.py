"""A sentence-transformers Dense module: a linear layer after pooling."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError
from worker.models.checkpoint import weight_files
from worker.models.config_file import read_object
from worker.models.keys.modules import check_module_keys
from worker.models.safetensors_reader import SafetensorsFile

#: Our name of an activation -> the class in torch.nn, made without arguments
ACTIVATIONS = {
    "identity": "Identity",
    "tanh": "Tanh",
    "relu": "ReLU",
    "gelu": "GELU",
    "silu": "SiLU",
    "sigmoid": "Sigmoid",
    "leaky_relu": "LeakyReLU",
    "elu": "ELU",
    "selu": "SELU",
    "mish": "Mish",
    "softplus": "Softplus",
    "softsign": "Softsign",
    "relu6": "ReLU6",
    "hardtanh": "Hardtanh",
    "hardswish": "Hardswish",
    "hardsigmoid": "Hardsigmoid",
}
_DEFAULT = "torch.nn.modules.activation.Tanh"


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
    check_module_keys(config, "Dense", file=f"{directory.name}/config.json")
    activation = _activation(config.get("activation_function", _DEFAULT), directory)
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
        activation=activation,
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


def _activation(stated: object, directory: Path) -> str:
    """Our name of an activation function that is stated as a class of torch.nn."""
    if stated is None:
        raise ModelError(
            f"{directory.name}/config.json has activation_function null, which sentence-transformers cannot "
            "read either; write torch.nn.modules.linear.Identity for none, or delete the key for Tanh, its "
            "default"
        )
    package, _, name = stated.rpartition(".") if isinstance(stated, str) else ("", "", "")
    known = {each: ours for ours, each in ACTIVATIONS.items()}
    if name not in known or not f"{package}.".startswith("torch.nn."):
        raise ModelError(
            f"{directory.name} has the activation {stated!r:.80}; supported are, of torch.nn, "
            + ", ".join(known)
        )
    return known[name]
