"""Reads what is needed to run a custom ONNX graph: its inputs by role, and one output."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from producer.errors import ModelError
from worker.models.onnx.graph_roles import GraphInput, find_inputs, find_output, table_rows
from worker.models.onnx.stored_tensors import external_files, stored_tensors

Precision = Literal["fp32", "fp16", "bf16", "int8"]
_QUANTISED = ("DequantizeLinear", "MatMulInteger", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulNBits")
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphFile:
    """The file and what it declares.

    `pooled` is true if `output` has one vector per text (B, dim), and false if one per token (B, S, hidden).
    `width` is its last dimension, None if dynamic. `num_texts` and `num_tokens` are B and S if the graph was
    exported with fixed ones, else None. `vocab_size` is the number of rows of its token table.
    `sha256` covers the file, its external tensors, and the name of an output that was chosen.
    """

    path: Path
    sha256: str
    precision: Precision
    inputs: tuple[GraphInput, ...]
    output: str
    pooled: bool
    width: int | None
    num_texts: int | None
    num_tokens: int | None
    vocab_size: int | None

    @property
    def masked(self) -> bool:
        """True if the graph takes an attention mask."""
        return any(each.role == "mask" for each in self.inputs)


def read_graph(path: Path, *, output: str | None = None) -> GraphFile:
    """The graph in an ONNX file; its external tensors are not parsed and need not exist.

    `output` chooses among several outputs. Raises ModelError, naming what was found, for a damaged file and
    for a graph whose inputs or outputs are not those of a text encoder.
    """
    proto = load_proto(path)
    inputs = find_inputs(proto.graph, path)
    value = find_output(proto, path, chosen=output)
    ids = next(each for each in inputs if each.role == "ids")
    graph = GraphFile(
        path=path,
        sha256=_sha256(path, proto, salt=output or ""),
        precision=_precision(proto),
        inputs=inputs,
        output=value.name,
        pooled=len(value.shape) == 2,
        width=value.shape[-1],
        num_texts=_fixed(inputs, 0, path),
        num_tokens=_fixed(inputs, 1, path),
        vocab_size=table_rows(proto.graph, ids.name),
    )
    if graph.num_tokens is not None and not graph.masked:
        raise ModelError(
            f"{path.name} takes texts of exactly {graph.num_tokens} tokens without an attention mask, "
            "so padding would count as text; export it with an attention_mask"
        )
    return graph


def load_proto(path: Path) -> Any:
    """The parsed file without its external tensors. Raises ModelError if it is damaged."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(str(path), load_external_data=False)
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    except DecodeError as error:
        raise ModelError(
            f"{path} is not a complete ONNX file; it is truncated or in another format, copy it again"
        ) from error
    if not proto.graph.node:
        raise ModelError(f"{path} is an ONNX file without a graph; it is truncated or empty, copy it again")
    return proto


def _fixed(inputs: tuple[GraphInput, ...], axis: int, path: Path) -> int | None:
    """The number of texts (axis 0) or tokens (1) that the inputs fix, None if none does."""
    sizes = {each.shape[axis] for each in inputs if each.role != "cache"} - {None}
    if len(sizes) > 1:
        raise ModelError(
            f"the inputs of {path.name} have different fixed sizes: "
            + "; ".join(map(str, inputs))
            + "; export it with the same ones, or with dynamic axes"
        )
    return next(iter(sizes), None)


def _sha256(path: Path, proto: Any, *, salt: str) -> str:
    digest = hashlib.sha256(salt.encode())
    # A missing external file is reported when the graph is loaded.
    external = sorted(each for each in external_files(path, proto) if each.is_file())
    for each in (path, *external):
        with each.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def _precision(proto: Any) -> Precision:
    """int8 if the graph has int8 operators, else the data type of most of its elements."""
    from onnx import TensorProto

    if any(node.op_type in _QUANTISED for node in proto.graph.node):
        return "int8"
    halves: dict[int, Precision] = {TensorProto.FLOAT16: "fp16", TensorProto.BFLOAT16: "bf16"}
    num_elements: dict[Precision, int] = {"fp32": 0, "fp16": 0, "bf16": 0}
    for tensor in stored_tensors(proto.graph):
        size = 1
        for dim in tensor.dims:
            size *= dim
        num_elements[halves.get(tensor.data_type, "fp32")] += size
    return max(num_elements, key=lambda each: num_elements[each])
