"""Builds ONNX graphs node by node; large tensors stay NumPy arrays outside the protobuf.

It uses only `onnx.helper`: a builder library (onnxscript, onnx-ir) would be another dependency of every
worker to replace these few methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

MICROSOFT = "com.microsoft"  # domain of ONNX Runtime's own operators


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """A serialised ONNX model and, by name, the tensors that it declares as external data."""

    proto: bytes
    tensors: Mapping[str, npt.NDArray[Any]]


class Nodes:
    """Collects nodes and tensors in the order in which they are added, and names every value."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._tensors: dict[str, npt.NDArray[Any]] = {}

    def op(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        """Append a node with one output and return the output's name; an input "" is omitted."""
        return self.ops(kind, *inputs, num_outputs=1, domain=domain, **attributes)[0]

    def ops(
        self,
        kind: str,
        *inputs: str,
        num_outputs: int,
        unread: Sequence[int] = (),
        domain: str = "",
        **attributes: Any,
    ) -> list[str]:
        """Append a node and return the names of its outputs; those at indices `unread` are omitted, as ""."""
        from onnx import helper

        names = [f"{kind}_{len(self._nodes)}_{index}" for index in range(num_outputs)]
        outputs = ["" if index in unread else name for index, name in enumerate(names)]
        self._nodes.append(helper.make_node(kind, list(inputs), outputs, domain=domain, **attributes))
        return outputs

    def split(self, value: str, sizes: Sequence[int], *, axis: int) -> tuple[str, ...]:
        """Split a value along an axis into parts of these sizes."""
        from onnx import helper

        outputs = [f"Split_{len(self._nodes)}_{index}" for index in range(len(sizes))]
        inputs = [value, self.constant(sizes, np.int64)]
        self._nodes.append(helper.make_node("Split", inputs, outputs, axis=axis))
        return tuple(outputs)

    def constant(self, value: float | Sequence[int] | npt.NDArray[Any], dtype: type[np.generic]) -> str:
        """Add a small tensor, stored in the graph itself."""
        from onnx import numpy_helper

        name = f"constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def tensor(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a large tensor, which the graph only refers to by name."""
        self._tensors[name] = value
        return name

    def branch(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> Any:
        """A subgraph of one node for a branch of an If; its inputs are values of this graph."""
        from onnx import TensorProto, helper

        node = helper.make_node(kind, list(inputs), ["branch"], domain=domain, **attributes)
        output = helper.make_tensor_value_info("branch", TensorProto.FLOAT, None)
        return helper.make_graph([node], "branch", [], [output])

    def finish(
        self, inputs: Sequence[Any], output: str, *, name: str, shape: Sequence[str | int], opset: int = 18
    ) -> Graph:
        """The finished model, with `output` as its only output, float32, called `name`.

        `opset` should be the lowest version with all operators used, so that older runtimes can read it.
        """
        from onnx import TensorProto, helper

        graph = helper.make_graph(
            [*self._nodes, helper.make_node("Identity", [output], [name])],
            "embedmill",
            inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
            [*self._constants, *(_external(key, value) for key, value in self._tensors.items())],
        )
        opsets = [helper.make_opsetid("", opset), helper.make_opsetid(MICROSOFT, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="embedmill")
        return Graph(model.SerializeToString(), self._tensors)


def _external(name: str, value: npt.NDArray[Any]) -> Any:
    from onnx import TensorProto, helper

    proto = TensorProto(
        name=name,
        dims=value.shape,
        data_type=helper.np_dtype_to_tensor_dtype(value.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    # Never read: the runtime receives the tensor itself.
    proto.external_data.add(key="location", value="tensors")
    return proto
