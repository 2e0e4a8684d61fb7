"""FlatNorms of an ONNX graph, by themselves and behind a sum."""

from typing import Protocol

from worker.graphs.builder import MICROSOFT, Nodes
from worker.graphs.flat.linear import FlatLinears
from worker.models.architecture import Architecture
from worker.models.weights import Weights


class FlatNorms:
    """Writes the norms of an architecture: LayerNorm with a bias or without, or RMSNorm."""

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights

    def norm(self, x: str, name: str, *, rms: bool = False) -> str:
        """The norm `name` over the last axis; as RMSNorm even in a network of other norms if `rms`."""
        kind, epsilon = "LayerNormalization", self._architecture.norm_eps
        if rms or self._architecture.norm == "rms":
            kind = "SimplifiedLayerNormalization"
        return self._nodes.op(kind, x, *self.tensors(name), axis=-1, epsilon=epsilon)

    def tensors(self, name: str) -> list[str]:
        """The norm's weight, and its bias if it has one."""
        parts = [f"{name}.{leaf}" for leaf in ("weight", "bias") if f"{name}.{leaf}" in self._weights]
        return [self._nodes.tensor(part, self._weights[part]) for part in parts]


class Sums(Protocol):
    """Writes the end of a branch."""

    def add(self, x: str, name: str, stream: str, norm: str) -> tuple[str, str]:
        """The layer `name` applied to x, plus the stream; that sum normed, and the sum itself.

        The sum may be "" in a network that never reads it.
        """


class PlainSums:
    """Add, then norm: on CPUs six times as fast as ONNX Runtime's fused operator (1.32)."""

    def __init__(
        self, nodes: Nodes, architecture: Architecture, norms: FlatNorms, linears: FlatLinears
    ) -> None:
        self._nodes = nodes
        self._biased = architecture.biased
        self._norms = norms
        self._linears = linears

    def add(self, x: str, name: str, stream: str, norm: str) -> tuple[str, str]:
        """See `Sums`."""
        branch = self._linears.linear(x, name, bias=name.rpartition(".")[2] in self._biased)
        total = self._nodes.op("Add", branch, stream)
        return self._norms.norm(total, norm), total


class FusedSums:
    """Bias, sum and norm in one kernel, for GPUs."""

    def __init__(
        self,
        nodes: Nodes,
        architecture: Architecture,
        weights: Weights,
        norms: FlatNorms,
        linears: FlatLinears,
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights
        self._norms = norms
        self._linears = linears

    def add(self, x: str, name: str, stream: str, norm: str) -> tuple[str, str]:
        """See `Sums`."""
        nodes, bias = self._nodes, ""
        if name.rpartition(".")[2] in self._architecture.biased:
            bias = nodes.tensor(f"{name}.bias", self._weights[f"{name}.bias"])
        product = self._linears.linear(x, name, bias=False)
        inputs = [product, stream, *self._norms.tensors(norm)]
        kind = "SkipSimplifiedLayerNormalization"
        if self._architecture.norm == "layer":
            kind = "SkipLayerNormalization"
            inputs += [""] * (4 - len(inputs))
        inputs += [bias] if bias else []
        epsilon = self._architecture.norm_eps
        if self._architecture.post_norm:
            normed = nodes.op(kind, *inputs, domain=MICROSOFT, epsilon=epsilon)
            return normed, ""
        # Between the two lie mean and deviation, for training.
        unread = (1, 2)
        normed, _, _, total = nodes.ops(
            kind, *inputs, num_outputs=4, unread=unread, domain=MICROSOFT, epsilon=epsilon
        )
        return normed, total
