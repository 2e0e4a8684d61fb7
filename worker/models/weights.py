"""Reads a network's tensors and gives them the same names for every family.

    embeddings.word (vocab, hidden)      embeddings.position (max_positions, hidden)
    embeddings.token_type (types, hidden)     embeddings.norm.weight / .bias (hidden,)
    relative_bias (buckets, heads)            final_norm.weight / .bias (hidden,)
    layers.<i>.qkv.weight ((heads + 2 * kv_heads) * head_dim, hidden) / .bias
    layers.<i>.q_norm.weight, k_norm.weight (head_dim,)
    layers.<i>.out.weight (hidden, heads * head_dim) / .bias         layers.<i>.attention_norm.weight / .bias
    layers.<i>.up.weight (intermediate, hidden) / .bias; gated: twice the rows, activated half first
    layers.<i>.down.weight (hidden, intermediate) / .bias            layers.<i>.output_norm.weight / .bias
    layers.<i>.out_norm.weight, down_norm.weight (hidden,)

A linear layer's weight is (out, in), as stored: y = x @ weight.T + bias. A layer's two norms follow its two
residual sums, or precede its two branches if the network is not `post_norm`; with `branch_norm`, out_norm and
down_norm follow the two branches. Tensors that a network lacks are absent.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError
from worker.models.architecture import Architecture
from worker.models.checkpoint import weight_files
from worker.models.safetensors_reader import SafetensorsFile
from worker.models.static_table import static_rows
from worker.models.tensor_names import TENSOR_NAMES, is_unused, unwrapped

Weights = Mapping[str, npt.NDArray[np.float32]]


def read_weights(directory: Path, architecture: Architecture) -> Weights:
    """All tensors of the network in `directory` as float32, complete and with the right shapes.

    Raises ModelError naming a tensor that is missing, unexpected, or of the wrong shape.
    """
    if architecture.kind == "static":
        return {"embeddings.word": static_rows(directory)}
    names = TENSOR_NAMES[architecture.kind]
    stored = _index(directory, names.prefix)
    shapes = tensor_shapes(architecture)
    sources = {name: names.sources(name) for name in shapes}
    known = {name for names in sources.values() for name in names}
    for name in stored:
        if name not in known and not is_unused(name):
            raise ModelError(
                f"tensor {name} does not belong to the {architecture.kind} network of config.json; "
                "use the one that came with the weights"
            )
    weights = {name: _assemble(stored, sources[name], shape) for name, shape in shapes.items()}
    if names.factor_first:
        for name in [name for name in weights if ".up." in name]:
            weights[name] = np.roll(weights[name], architecture.intermediate, axis=0)
    if names.norms_less_one:
        for name in [name for name in weights if name.endswith("norm.weight")]:
            weights[name] = weights[name] + np.float32(1)
    if names.scaled_words:
        weights["embeddings.word"] = weights["embeddings.word"] * np.float32(math.sqrt(architecture.hidden))
    return weights


def tensor_shapes(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of the network, by our name."""
    hidden = architecture.hidden
    shapes: dict[str, tuple[int, ...]] = {"embeddings.word": (architecture.vocab_size, hidden)}
    if architecture.positions == "absolute":
        shapes["embeddings.position"] = (architecture.max_positions, hidden)
    if architecture.token_types:
        shapes["embeddings.token_type"] = (architecture.token_types, hidden)
    if architecture.relative_buckets:
        shapes["relative_bias"] = (architecture.relative_buckets, architecture.heads)
    norms = ["embeddings.norm"] if architecture.embedding_norm else []
    if not architecture.post_norm:
        norms.append("final_norm")
    for layer in range(architecture.layers):
        shapes |= _layer_shapes(architecture, f"layers.{layer}")
        # A norm after the embeddings also serves as the norm before the first branch.
        if architecture.post_norm or layer > 0 or not architecture.embedding_norm:
            norms.append(f"layers.{layer}.attention_norm")
        norms.append(f"layers.{layer}.output_norm")
        if architecture.branch_norm:
            norms += [f"layers.{layer}.out_norm", f"layers.{layer}.down_norm"]
    for norm in norms:
        shapes[f"{norm}.weight"] = (hidden,)
        if architecture.norm_bias:
            shapes[f"{norm}.bias"] = (hidden,)
    return shapes


def _layer_shapes(architecture: Architecture, layer: str) -> dict[str, tuple[int, ...]]:
    """The tensors of one layer, except its norms."""
    hidden, intermediate = architecture.hidden, architecture.intermediate
    attended = architecture.heads * architecture.head_dim
    linear = {
        "qkv": (attended + 2 * architecture.kv_heads * architecture.head_dim, hidden),
        "out": (hidden, attended),
        "up": (2 * intermediate if architecture.gated else intermediate, hidden),
        "down": (hidden, intermediate),
    }
    shapes: dict[str, tuple[int, ...]] = {}
    for part, shape in linear.items():
        shapes[f"{layer}.{part}.weight"] = shape
        if part in architecture.biased:
            shapes[f"{layer}.{part}.bias"] = shape[:1]
    if architecture.head_norm:
        shapes[f"{layer}.q_norm.weight"] = shapes[f"{layer}.k_norm.weight"] = (architecture.head_dim,)
    return shapes


def _assemble(
    stored: Mapping[str, tuple[SafetensorsFile, str]], parts: tuple[str, ...], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    arrays = []
    for part in parts:
        if part not in stored:
            raise ModelError(f"tensor {part} is missing from the weights; download the model again")
        file, name = stored[part]
        found = file.shape(name)
        if found[1:] != shape[1:] or (len(parts) == 1 and found != shape):
            raise ModelError(f"tensor {name} has shape {found}, but config.json requires {shape}")
        arrays.append(file.read(name))
    if len(arrays) == 1:
        return arrays[0]
    rows = sum(len(array) for array in arrays)
    if rows != shape[0]:
        raise ModelError(f"tensors {', '.join(parts)} have {rows} rows, but config.json requires {shape[0]}")
    return np.concatenate(arrays)


def _index(directory: Path, prefix: str) -> dict[str, tuple[SafetensorsFile, str]]:
    """The family's name of each stored tensor -> its file and its name in that file."""
    found: dict[str, tuple[SafetensorsFile, str]] = {}
    for path in weight_files(directory):
        file = SafetensorsFile(path)
        for name in file.names:
            renamed = unwrapped(name, prefix)
            if renamed.startswith("LayerNorm") or ".LayerNorm." in renamed:
                # Checkpoints converted from TensorFlow.
                renamed = renamed.replace(".gamma", ".weight").replace(".beta", ".bias")
            if renamed in found:
                raise ModelError(
                    f"the weights have both {found[renamed][1]} and {name}, which are the same tensor of the "
                    "network; save the model again"
                )
            found[renamed] = (file, name)
    return found
