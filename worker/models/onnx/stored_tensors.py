"""Finds the tensors of an ONNX file and checks that they are complete."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from producer.errors import ModelError


def stored_tensors(graph: Any) -> Iterator[Any]:
    """All tensors stored in a graph and its subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from stored_tensors(attribute.g)


def external_files(path: Path, proto: Any) -> set[Path]:
    """The files with external tensors. Raises ModelError for a path outside the graph's directory."""
    return {
        path.parent / _location(tensor, path)
        for tensor in stored_tensors(proto.graph)
        if _is_external(tensor)
    }


def check_tensors(path: Path, proto: Any) -> None:
    """Raise ModelError for a tensor whose file is missing or too short, or that contains NaN."""
    for file in sorted(external_files(path, proto)):
        if not file.is_file():
            raise ModelError(
                f"{path.name} stores its weights in {file.name}, which is missing from {file.parent}; "
                "copy it there"
            )
    for tensor in stored_tensors(proto.graph):
        if _is_external(tensor):
            _check_size(tensor, path)
        _check_values(tensor, path)


def _is_external(tensor: Any) -> bool:
    from onnx import TensorProto

    return bool(tensor.data_location == TensorProto.EXTERNAL)


def _location(tensor: Any, path: Path) -> str:
    place = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    if not place or Path(place).is_absolute() or ".." in Path(place).parts:
        raise ModelError(
            f"{path.name} places the tensor {tensor.name:.60} at {place!r:.80}, outside its directory; "
            "such files are not read"
        )
    return str(place)


def _check_size(tensor: Any, path: Path) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = path.parent / entries["location"]
    end = int(entries.get("offset") or 0) + int(entries.get("length") or 0)
    if end > file.stat().st_size:
        raise ModelError(
            f"{file.name} has {file.stat().st_size} bytes, but {path.name} needs {end}; it is truncated, "
            "copy it again"
        )


def _check_values(tensor: Any, path: Path) -> None:
    from onnx import TensorProto

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
    if tensor.data_type not in floats:
        return
    try:
        values = _values(tensor, path)
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the tensor {tensor.name:.60} of {path.name} does not have its stated size; copy the file again"
        ) from error
    # Infinities are valid: masks use them.
    if np.isnan(values).any():
        raise ModelError(
            f"the tensor {tensor.name:.60} of {path.name} contains NaN; the weights are damaged, export "
            "the model again"
        )


def _values(tensor: Any, path: Path) -> np.ndarray:
    """The tensor's values. Raises ValueError if there are fewer than its shape states."""
    from onnx import helper, numpy_helper

    if not _is_external(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    # onnx itself refuses files that are symbolic links, as they are in the cache of the hub.
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype, file = helper.tensor_dtype_to_np_dtype(tensor.data_type), path.parent / entries["location"]
    values = np.fromfile(file, dtype, count=math.prod(tensor.dims), offset=int(entries.get("offset") or 0))
    return values.reshape(tuple(tensor.dims))
