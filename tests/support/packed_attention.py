"""PackedMultiHeadAttention, which only the CUDA provider has, as a function of operators that CPUs have."""

from dataclasses import replace
from typing import Any

from worker.graphs.builder import Graph


def for_cpu(graph: Graph) -> Graph:
    """The graph with the operator's definition inside, so that any provider can run it."""
    import onnx

    model = onnx.load_from_string(graph.proto)
    model.functions.append(_definition())
    model.opset_import.append(onnx.helper.make_opsetid("spelled.out", 1))
    for node in model.graph.node:
        if node.op_type == "PackedMultiHeadAttention":
            # Under its own domain the runtime would look for a kernel and find none.
            node.domain = "spelled.out"
    return replace(graph, proto=model.SerializeToString())


def _definition() -> Any:
    from onnx import parser

    return parser.parse_function(
        """
        <opset_import: ["" : 18, "com.microsoft" : 1], domain: "spelled.out">
        PackedMultiHeadAttention <num_heads, scale: float = 0.0>
            (query, key, value, bias, token_offset, cumulative, extra)
            => (mixed)
        {
            one = Constant <value_ints: ints = [1]> ()
            zero = Constant <value_ints: ints = [0]> ()
            minus_one = Constant <value_ints: ints = [-1]> ()
            many = Constant <value_ints: ints = [2147483647]> ()
            shape = Shape (token_offset)
            num_tokens = Shape <start: int = 0, end: int = 1> (query)
            width = Shape <start: int = 1, end: int = 2> (query)
            all_places = Reshape (token_offset, minus_one)
            places = Slice (all_places, zero, num_tokens)
            wide_places = Cast <to: int = 7> (places)
            index = Unsqueeze (wide_places, one)
            num_slots = Shape (all_places)
            flat_shape = Concat <axis: int = 0> (num_slots, width)
            padded_shape = Concat <axis: int = 0> (shape, width)
            zeros = ConstantOfShape (flat_shape)
            empty = CastLike (zeros, query)
            flat_q = ScatterND (empty, index, query)
            flat_k = ScatterND (empty, index, key)
            flat_v = ScatterND (empty, index, value)
            q = Reshape (flat_q, padded_shape)
            k = Reshape (flat_k, padded_shape)
            v = Reshape (flat_v, padded_shape)
            starts = Slice (cumulative, zero, minus_one)
            ends = Slice (cumulative, one, many)
            lengths = Sub (ends, starts)
            padded = com.microsoft.MultiHeadAttention <num_heads: int = @num_heads, scale: float = @scale>
                (q, k, v, bias, lengths, extra)
            flat = Reshape (padded, flat_shape)
            mixed = Gather (flat, wide_places)
        }
        """
    )
