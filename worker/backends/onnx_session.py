"""An ONNX Runtime session on the provider that was asked for, and on no other."""

from typing import Any

from producer.errors import BackendError
from worker.backends.onnx_errors import onnx_errors
from worker.graphs.builder import Graph

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_OPTIONS: dict[str, dict[str, str]] = {
    CPU: {},
    # The provider makes a stream of its own. Its arena grows by what is asked for, not by doubling, so that
    # several processes fit on a GPU; TF32 would cost fp32 its promise.
    CUDA: {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"},
}
# Where nearly all the work is: they may not be left to the CPU.
_HEAVY = {"Gemm", "PackedMultiHeadAttention", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}


def open_session(graph: Graph, provider: str) -> Any:
    """A session on the graph with its tensors; BackendError if it, or its work, is on another provider."""
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if provider not in there:
        cure = "; install embedmill[gpu]" if provider == CUDA else ""
        raise BackendError(f"this onnxruntime has no {provider}, only {', '.join(there)}{cure}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The graph is written with the fused operators we want; more fusing would undo some of it.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # it would keep a plan for every shape ever seen
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_external_initializers(
        list(graph.tensors),
        [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in graph.tensors.values()],
    )
    if provider == CUDA:
        # CUDA's libraries may have come as wheels, where the loader does not look.
        onnxruntime.preload_dlls()
    with onnx_errors("load the network"):
        session = onnxruntime.InferenceSession(
            graph.proto, options, providers=[(provider, _OPTIONS.get(provider, {}))]
        )
    refuse_fallback(session, provider)
    return session


def refuse_fallback(session: Any, provider: str) -> None:
    """BackendError if ONNX Runtime took another provider, which it does where libraries are missing."""
    if session.get_providers()[0] != provider:
        raise BackendError(f"onnxruntime chose {session.get_providers()[0]} instead of {provider}")
    astray = misplaced(session, provider)
    if astray:
        raise BackendError(f"onnxruntime leaves {', '.join(astray)} to another provider than {provider}")


def misplaced(session: Any, provider: str) -> list[str]:
    """Kinds of heavy operators that do not run on the provider, sorted."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []  # before onnxruntime 1.24 nobody tells
    return sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name != provider
            for node in part.get_nodes()
        }
        & _HEAVY
    )
