"""Recognises the inputs and the output of a custom graph by shape, type, use and name."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from producer.errors import ModelError

Role = Literal["ids", "mask", "types", "positions", "cache", "unknown"]
_ROLES: dict[str, Role] = {
    "input_ids": "ids",
    "attention_mask": "mask",
    "token_type_ids": "types",
    "position_ids": "positions",
}
_CACHE = "past_key_values."  # keys and values of earlier tokens: there are none
_MOST_TOKEN_TYPES = 16
_EXPORTED = "sentence_embedding"  # what Optimum calls the output of all of a model's modules
_POOLED = ("sentence_embeddings", "embedding", "embeddings", "text_embeds", "vectors")
_STATES = ("last_hidden_state", "token_embeddings", "hidden_states")
# Operators that do not change the values of indices.
_SAME = ("Cast", "Identity", "Unsqueeze", "Squeeze", "Reshape")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphValue:
    """An input or output as declared: its NumPy dtype and its shape, None for a dynamic dimension."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return (
            f"{self.name} {self.dtype} [{', '.join('?' if dim is None else str(dim) for dim in self.shape)}]"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphInput(GraphValue):
    """An input with its role."""

    role: Role = "unknown"


def find_inputs(graph: Any, path: Path) -> tuple[GraphInput, ...]:
    """The graph's inputs with their roles, exactly one of them "ids". Raises ModelError."""
    stored = {tensor.name for tensor in graph.initializer}
    values = [_value(each) for each in graph.input if each.name not in stored]
    inputs = tuple(_with_role(value, graph) for value in values)
    inputs = _ids_have_the_largest_table(inputs, graph)
    roles = [each.role for each in inputs if each.role != "cache"]
    if "unknown" in roles or roles.count("ids") != 1 or len(set(roles)) != len(roles):
        raise ModelError(
            f"the inputs of {path.name} are not recognised: {_listed(values)}; expected are token ids, an "
            "attention mask, token types and positions, each at most once, as integers [texts, tokens]"
        )
    return inputs


def find_output(proto: Any, path: Path, *, chosen: str | None = None) -> GraphValue:
    """The output with one vector per text, else the one with a vector per token; or the `chosen` one.

    Raises ModelError, naming the outputs, if none is recognised or several are equally good.
    """
    graph = proto.graph
    if any(not each.type.tensor_type.HasField("shape") for each in graph.output):
        import onnx

        graph = onnx.shape_inference.infer_shapes(proto).graph
    seen = [_value(each) for each in graph.output]
    floats = [each for each in seen if each.dtype.startswith(("float", "bfloat"))]
    if chosen is not None:
        return _chosen(chosen, [each for each in floats if len(each.shape) in (2, 3)], path, seen)
    values = [each for each in floats if "logits" not in each.name]
    pooled = [each for each in values if len(each.shape) == 2 and each.name != "pooler_output"]
    states = [each for each in values if len(each.shape) == 3]
    exported = [each for each in pooled if each.name == _EXPORTED]
    named = (
        [each for each in kind if each.name in names]
        for kind, names in ((pooled, _POOLED), (states, _STATES))
    )
    candidates = next((found for found in (exported, *named, states, pooled) if found), [])
    if len(candidates) == 1:
        return candidates[0]
    problem = "are not recognised" if not candidates else "leave open which one is the embedding"
    raise ModelError(
        f"the outputs of {path.name} {problem}: {_listed(seen)}; expected is one output of hidden states "
        "[texts, tokens, size] or of embeddings [texts, size]; EMBEDMILL_CUSTOM_OUTPUT names one"
    )


def _chosen(name: str, usable: list[GraphValue], path: Path, seen: list[GraphValue]) -> GraphValue:
    found = [each for each in usable if each.name == name]
    if not found:
        raise ModelError(
            f"EMBEDMILL_CUSTOM_OUTPUT is {name!r:.60}, which is no output of hidden states [texts, tokens, "
            f"size] or of embeddings [texts, size] of {path.name}; its outputs are {_listed(seen)}"
        )
    return found[0]


def table_rows(graph: Any, name: str) -> int | None:
    """The number of rows of the table that the value `name` indexes; None if it indexes no table."""
    rows = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}
    made = {output: node for node in graph.node for output in node.output}
    names = {name}
    for node in graph.node:  # nodes are in topological order
        if node.op_type in _SAME and node.input[0] in names:
            names.add(node.output[0])
        elif node.op_type == "Gather" and node.input[1] in names:
            table = node.input[0]
            while table not in rows and table in made and made[table].op_type in ("DequantizeLinear", "Cast"):
                table = made[table].input[0]
            if table in rows:
                return int(rows[table])
    return None


def _with_role(value: GraphValue, graph: Any) -> GraphInput:
    given = GraphInput(name=value.name, dtype=value.dtype, shape=value.shape)
    if value.name.startswith(_CACHE) and len(value.shape) == 4 and None not in value.shape[1::2]:
        return replace(given, role="cache")
    if len(value.shape) != 2:
        return given
    if value.name in _ROLES:
        return replace(given, role=_ROLES[value.name])
    if value.dtype not in ("int32", "int64"):
        return replace(given, role="mask" if "mask" in value.name else "unknown")
    rows = table_rows(graph, value.name)
    if rows is None:
        return replace(given, role="mask")
    return replace(given, role="types" if rows <= _MOST_TOKEN_TYPES else "positions")


def _ids_have_the_largest_table(inputs: tuple[GraphInput, ...], graph: Any) -> tuple[GraphInput, ...]:
    """If no input is named as ids, the input that indexes the largest table takes the ids."""
    if any(each.role == "ids" for each in inputs):
        return inputs
    indexing = [each for each in inputs if each.role in ("types", "positions") and each.name not in _ROLES]
    if not indexing:
        return inputs
    ids = max(indexing, key=lambda each: table_rows(graph, each.name) or 0)
    return tuple(replace(each, role="ids") if each is ids else each for each in inputs)


def _value(info: Any) -> GraphValue:
    from onnx import helper

    tensor = info.type.tensor_type
    dims = [
        dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else None for dim in tensor.shape.dim
    ]
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    except KeyError:
        dtype = "not a tensor"
    return GraphValue(name=info.name, dtype=dtype, shape=tuple(dims))


def _listed(values: Iterable[GraphValue]) -> str:
    return "; ".join(str(each) for each in values)[:400] or "none"
