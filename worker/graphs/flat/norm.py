"""Norms of a flat ONNX graph, alone and after a residual sum."""

from typing import Protocol

from worker.graphs.builder import MICROSOFT, Nodes
from worker.graphs.flat.linear import FlatLinears
from worker.models.architecture import Architecture
from worker.models.weights import Weights


class FlatNorms:
    """Writes the norms of an architecture: LayerNorm with or without a bias, or RMSNorm."""

    def __init__(self, nodes: Nodes, architecture: Architecture, weights: Weights) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._weights = weights

    def norm(self, x: str, name: str, *, rms: bool = False) -> str:
        """Write the norm `name` over the last axis; with `rms`, as RMSNorm in any network."""
        kind, epsilon = "LayerNormalization", self._architecture.norm_eps
        if rms or self._architecture.norm == "rms":
            kind = "SimplifiedLayerNormalization"
        return self._nodes.op(kind, x, *self.tensors(name), axis=-1, epsilon=epsilon)

    def tensors(self, name: str) -> list[str]:
        """The norm's weight, and its bias if it has one."""
        parts = [f"{name}.{leaf}" for leaf in ("weight", "bias") if f"{name}.{leaf}" in self._weights]
        return [self._nodes.tensor(part, self._weights[part]) for part in parts]


class AddNorm(Protocol):
    """Writes the end of a branch: its last linear layer, the residual addition and the norm."""

    def write(self, x: str, name: str, residual: str, norm: str) -> tuple[str, str]:
        """norm(sum) and the sum itself, where sum is the output of layer `name` for x plus the residual.

        The output is normalised first if the network has a norm for it. The sum may be "" in a network that
        never reads it.
        """


class PlainAddNorm:
    """Separate add and norm: on CPUs six times as fast as the fused operator of ONNX Runtime 1.32."""

    def __init__(
        self, nodes: Nodes, architecture: Architecture, norms: FlatNorms, linears: FlatLinears
    ) -> None:
        self._nodes = nodes
        self._architecture = architecture
        self._norms = norms
        self._linears = linears

    def write(self, x: str, name: str, residual: str, norm: str) -> tuple[str, str]:
        """See `AddNorm`."""
        biased = name.rpartition(".")[2] in self._architecture.biased
        branch = self._linears.linear(x, name, bias=biased)
        if self._architecture.branch_norm:
            branch = self._norms.norm(branch, f"{name}_norm")
        total = self._nodes.op("Add", branch, residual)
        return self._norms.norm(total, norm), total


class FusedAddNorm:
    """Bias, addition and norm in one kernel, for GPUs."""

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

    def write(self, x: str, name: str, residual: str, norm: str) -> tuple[str, str]:
        """See `AddNorm`."""
        nodes, bias = self._nodes, ""
        biased = name.rpartition(".")[2] in self._architecture.biased
        if self._architecture.branch_norm:
            branch = self._norms.norm(self._linears.linear(x, name, bias=biased), f"{name}_norm")
        else:
            branch = self._linears.linear(x, name, bias=False)
            bias = nodes.tensor(f"{name}.bias", self._weights[f"{name}.bias"]) if biased else ""
        inputs = [branch, residual, *self._norms.tensors(norm)]
        kind = "SkipSimplifiedLayerNormalization"
        if self._architecture.norm == "layer":
            kind = "SkipLayerNormalization"
            inputs += [""] * (4 - len(inputs))
        inputs += [bias] if bias else []
        epsilon = self._architecture.norm_eps
        if self._architecture.post_norm:
            normalised = nodes.op(kind, *inputs, domain=MICROSOFT, epsilon=epsilon)
            return normalised, ""
        # Outputs 1 and 2 are mean and deviation, for training.
        unread = (1, 2)
        normalised, _, _, total = nodes.ops(
            kind, *inputs, num_outputs=4, unread=unread, domain=MICROSOFT, epsilon=epsilon
        )
        return normalised, total
