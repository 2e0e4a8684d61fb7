"""Opens ONNX Runtime sessions on the requested execution provider and rejects a fallback to another."""

from typing import Any

from producer.errors import BackendError
from worker.backends.onnx_errors import onnx_errors
from worker.graphs.builder import Graph

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

_OPTIONS: dict[str, dict[str, str]] = {
    CPU: {},
    # The provider creates its own stream. Its arena grows by the requested size instead of doubling, so that
    # several processes fit on a GPU. TF32 is not accurate enough for fp32 profiles.
    CUDA: {"arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"},
}
# Operators that do nearly all of the work and must not fall back to the CPU.
_HEAVY = {"Gemm", "PackedMultiHeadAttention", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"}


def open_session(graph: Graph, provider: str) -> Any:
    """A session on the graph and its tensors. Raises BackendError if another provider would run it."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if provider not in available:
        cure = "; install embedmill[gpu]" if provider == CUDA else ""
        raise BackendError(f"this onnxruntime has no {provider}, only {', '.join(available)}{cure}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    # The graph already has the fused operators we want; higher levels would undo some of them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.enable_mem_pattern = False  # it keeps a memory plan for every shape
    options.log_severity_level = 3
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.add_external_initializers(
        list(graph.tensors),
        [onnxruntime.OrtValue.ortvalue_from_numpy(tensor) for tensor in graph.tensors.values()],
    )
    if provider == CUDA:
        # CUDA's libraries may be installed as wheels, where the dynamic loader does not look.
        onnxruntime.preload_dlls()
    with onnx_errors("load the network"):
        session = onnxruntime.InferenceSession(
            graph.proto, options, providers=[(provider, _OPTIONS.get(provider, {}))]
        )
    refuse_fallback(session, provider)
    return session


def refuse_fallback(session: Any, provider: str) -> None:
    """Raise BackendError if ONNX Runtime fell back to another provider, as when libraries are missing."""
    if session.get_providers()[0] != provider:
        raise BackendError(f"onnxruntime chose {session.get_providers()[0]} instead of {provider}")
    elsewhere = misplaced(session, provider)
    if elsewhere:
        raise BackendError(f"onnxruntime runs {', '.join(elsewhere)} on another provider than {provider}")


def misplaced(session: Any, provider: str) -> list[str]:
    """The heavy operators that are assigned to other providers, sorted."""
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return []  # unknown before onnxruntime 1.24
    return sorted(
        {
            node.op_type
            for part in session.get_provider_graph_assignment_info()
            if part.ep_name != provider
            for node in part.get_nodes()
        }
        & _HEAVY
    )
