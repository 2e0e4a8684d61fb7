"""Moves a graph's tensors into its protobuf, for parsers that need a single buffer."""

from producer.errors import BackendError
from worker.graphs.builder import Graph

_MAX_BYTES = 2**31 - 2**20  # protobuf's limit, minus some room for the graph itself


def inlined(graph: Graph) -> bytes:
    """The serialised ONNX model with its tensors. Raises BackendError if it exceeds protobuf's 2 GiB."""
    import onnx

    num_bytes = sum(tensor.nbytes for tensor in graph.tensors.values())
    if num_bytes > _MAX_BYTES:
        raise BackendError(
            f"the network's weights have {num_bytes / 2**30:.1f} GiB, but an engine is built from at most "
            "2 GiB; choose another backend"
        )
    model = onnx.load_from_string(graph.proto)
    for proto in model.graph.initializer:
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            proto.ClearField("external_data")
            proto.data_location = onnx.TensorProto.DEFAULT
            proto.raw_data = graph.tensors[proto.name].tobytes()
    serialised: bytes = model.SerializeToString()
    return serialised
