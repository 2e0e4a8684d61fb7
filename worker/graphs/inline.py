"""A graph with its tensors inside, for readers that take one run of bytes."""

from producer.errors import BackendError
from worker.graphs.builder import Graph

_MAX_BYTES = 2**31 - 2**20  # of a serialised protobuf, less some room for the graph itself


def inlined(graph: Graph) -> bytes:
    """The serialised ONNX model, whole. Raises BackendError if it would not fit a protobuf, 2 GiB."""
    import onnx

    num_bytes = sum(tensor.nbytes for tensor in graph.tensors.values())
    if num_bytes > _MAX_BYTES:
        raise BackendError(
            f"the network's weights have {num_bytes / 2**30:.1f} GiB, an engine is built from at most 2; "
            "take another backend"
        )
    model = onnx.load_from_string(graph.proto)
    for proto in model.graph.initializer:
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            proto.ClearField("external_data")
            proto.data_location = onnx.TensorProto.DEFAULT
            proto.raw_data = graph.tensors[proto.name].tobytes()
    whole: bytes = model.SerializeToString()
    return whole
