"""Builds a network on a device from weights in host memory."""

from collections.abc import Iterable

import numpy as np
import torch

from producer.errors import BackendError
from worker.encoder.gelu_correction import mean_tanh_error
from worker.encoder.quantisation import (
    linear_bound,
    norm_bound,
    quantise_rows,
    quantise_tensor,
    static_scale_for,
)
from worker.models.architecture import Architecture
from worker.models.network import (
    AttentionSpec,
    Embeddings,
    Layer,
    Linear,
    Network,
    Norm,
    Rotation,
    Tensor,
)
from worker.models.relative_bias import bias_by_distance
from worker.models.rope import Rope
from worker.models.weights import Weights

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.bfloat16}
EIGHT_BIT_PARTS = ("qkv", "up", "down")  #: not `out`: no attention kernel outputs fp8


def build_network(
    architecture: Architecture,
    weights: Weights,
    *,
    device: torch.device,
    precision: str,
    max_text_tokens: int,
    keep_16bit: Iterable[str] = (),
    tanh_gelu: bool = False,
) -> Network:
    """The network with its tensors on `device` in `precision` (fp32, fp16, bf16 or fp8).

    Position tables cover texts of up to `max_text_tokens`. With fp8, `keep_16bit` names layers that stay
    bf16, such as "layers.<i>.down". With `tanh_gelu` a network without gates computes exact GELU with its
    tanh approximation, and the next bias corrects the mean error. Raises BackendError for an unknown
    precision, an unknown layer name, and weights that overflow fp16.
    """
    if precision not in _DTYPES:
        raise BackendError(
            f"the torch backend has no precision {precision!r:.40}; choose from {', '.join(_DTYPES)}"
        )
    kept = frozenset(keep_16bit)
    known = {f"layers.{index}.{part}" for index in range(architecture.layers) for part in EIGHT_BIT_PARTS}
    for name in sorted(kept - known):
        raise BackendError(f"keep_16bit names {name!r:.60}, which fp8 does not quantise; remove it")
    tensors = _Tensors(weights, device, precision, kept)
    # A gated activation is not fused into the matmul, and the next layer has no bias to correct.
    tanh_gelu = tanh_gelu and architecture.activation == "gelu" and not architecture.gated
    parts = _Parts(architecture, tensors, max_text_tokens, tanh_gelu=tanh_gelu)
    return Network(
        embeddings=parts.embeddings(),
        first_norm=parts.first_norm(),
        layers=tuple(parts.layer(index) for index in range(architecture.layers)),
        activation="gelu_tanh" if tanh_gelu else architecture.activation,
        gated=architecture.gated,
        post_norm=architecture.post_norm,
    )


class _Tensors:
    """Tensors by name, on the device, in the precision in which they are used."""

    def __init__(
        self, weights: Weights, device: torch.device, precision: str, keep_16bit: frozenset[str]
    ) -> None:
        self._weights = weights
        self._device = device
        self._dtype = _DTYPES[precision]
        self.eight_bit = precision == "fp8"
        self._keep_16bit = keep_16bit

    def exact(self, array: np.ndarray) -> Tensor:
        """The array as float32, regardless of the precision."""
        return torch.from_numpy(np.array(array, dtype=np.float32)).to(self._device)

    def named(self, name: str) -> Tensor | None:
        """float32, or None if the network lacks it."""
        return self.exact(self._weights[name]) if name in self._weights else None

    def narrow(self, name: str, exact: Tensor) -> Tensor:
        """In the network's dtype. Raises BackendError if it overflows fp16."""
        if self._dtype == torch.float16 and exact.abs().max() > torch.finfo(torch.float16).max:
            raise BackendError(f"tensor {name} overflows fp16; choose a bf16 or fp32 profile")
        return exact.to(self._dtype)

    def linear(
        self, name: str, *, input_error: Tensor | None = None, input_bound: Tensor | None = None
    ) -> Linear:
        """The layer, quantised if the precision is fp8 and its name is not excluded.

        `input_error` (in,) is the mean error of its input, which the bias corrects. `input_bound` () is an
        upper bound of its input's magnitude; with it, a quantised layer gets a static scale.
        """
        exact, exact_bias = self.named(f"{name}.weight"), self.named(f"{name}.bias")
        if exact_bias is not None and input_error is not None:
            exact_bias = exact_bias - exact @ input_error
        bias = None if exact_bias is None else self.narrow(f"{name}.bias", exact_bias)
        part = name.rpartition(".")[2]
        if not self.eight_bit or part not in EIGHT_BIT_PARTS or name in self._keep_16bit:
            return Linear(weight=self.narrow(f"{name}.weight", exact), bias=bias)
        if input_bound is not None:
            weight, scale = quantise_tensor(exact)
            static_scale = static_scale_for(input_bound)
            return Linear(weight=weight, bias=bias, scale=scale, static_scale=static_scale)
        weight, scale = quantise_rows(exact)
        return Linear(weight=weight, bias=bias, scale=scale)


class _Parts:
    """Builds the parts of a network of one architecture."""

    def __init__(
        self, architecture: Architecture, tensors: _Tensors, max_text_tokens: int, *, tanh_gelu: bool
    ) -> None:
        self._architecture = architecture
        self._tensors = tensors
        self._max_text_tokens = max_text_tokens
        self._tanh_gelu = tanh_gelu
        self._rotations: dict[Rope, Rotation] = {}
        self._bias = self._relative_bias()

    def embeddings(self) -> Embeddings:
        architecture, tensors = self._architecture, self._tensors
        words, positions = tensors.named("embeddings.word"), tensors.named("embeddings.position")
        types = tensors.named("embeddings.token_type")
        if types is not None:
            # Every sequence is a single text, so all tokens are of type 0.
            if positions is None:
                words = words + types[0]
            else:
                positions = positions + types[0]
        return Embeddings(
            words=tensors.narrow("embeddings.word", words),
            positions=None if positions is None else tensors.narrow("embeddings.position", positions),
            position_offset=architecture.position_offset,
            norm=self.norm("embeddings.norm") if architecture.embedding_norm else None,
        )

    def first_norm(self) -> Norm | None:
        """The norm before the first branch, unless the embeddings' norm serves as that."""
        if self._architecture.embedding_norm or not self._architecture.layers:
            return None
        return self.norm("layers.0.attention_norm")

    def layer(self, index: int) -> Layer:
        name, last = f"layers.{index}", index == self._architecture.layers - 1
        after_attention, after_output = f"{name}.attention_norm", f"{name}.output_norm"
        if not self._architecture.post_norm:
            # The norm before a branch is the one after the preceding sum.
            after_attention = after_output
            after_output = "final_norm" if last else f"layers.{index + 1}.attention_norm"
        attention_norm = self.norm(after_attention)
        up_bound, down_bound = self._input_bounds(name, attention_norm)
        return Layer(
            qkv=self._tensors.linear(f"{name}.qkv"),
            attention=self._attention(index),
            out=self._tensors.linear(f"{name}.out"),
            attention_norm=attention_norm,
            up=self._tensors.linear(f"{name}.up", input_bound=up_bound),
            down=self._tensors.linear(
                f"{name}.down", input_error=self._tanh_error(name, attention_norm), input_bound=down_bound
            ),
            output_norm=self.norm(after_output),
            out_norm=self.norm(f"{name}.out_norm") if self._architecture.branch_norm else None,
            down_norm=self.norm(f"{name}.down_norm") if self._architecture.branch_norm else None,
        )

    def norm(self, name: str, *, rms: bool = False) -> Norm:
        weight, bias = self._tensors.named(f"{name}.weight"), self._tensors.named(f"{name}.bias")
        rms = rms or self._architecture.norm == "rms"
        return Norm(weight=weight, bias=bias, eps=self._architecture.norm_eps, rms=rms)

    def _input_bounds(self, layer: str, norm: Norm) -> tuple[Tensor | None, Tensor | None]:
        """Bounds of the fp8 inputs of up and down; none with a gate, whose product has no useful bound."""
        if self._architecture.gated or not self._tensors.eight_bit:
            return None, None
        named = self._tensors.named
        # No activation increases magnitudes.
        return norm_bound(norm), linear_bound(named(f"{layer}.up.weight"), named(f"{layer}.up.bias"), norm)

    def _tanh_error(self, layer: str, norm: Norm) -> Tensor | None:
        if not self._tanh_gelu:
            return None
        named = self._tensors.named
        return mean_tanh_error(named(f"{layer}.up.weight"), named(f"{layer}.up.bias"), norm)

    def _attention(self, index: int) -> AttentionSpec:
        architecture = self._architecture
        return AttentionSpec(
            heads=architecture.heads,
            kv_heads=architecture.kv_heads,
            head_dim=architecture.head_dim,
            scale=architecture.score_scale,
            bias=self._bias,
            max_distance=0 if self._bias is None else self._max_text_tokens - 1,
            causal=architecture.causal,
            window=architecture.windows[index] if architecture.windows else 0,
            cap=architecture.score_cap,
            rotation=self._rotation(index) if architecture.ropes else None,
        )

    def _relative_bias(self) -> Tensor | None:
        buckets = self._tensors.named("relative_bias")
        if buckets is None:
            return None
        return self._tensors.exact(bias_by_distance(buckets.cpu().numpy(), self._max_text_tokens - 1))

    def _rotation(self, index: int) -> Rotation:
        rope, head_norm = self._architecture.ropes[index], self._architecture.head_norm
        if rope not in self._rotations:
            frequencies = rope.inverse_frequencies(self._architecture.head_dim)
            angles = np.outer(np.arange(self._max_text_tokens, dtype=np.float32), frequencies)
            cosines, sines = self._tensors.exact(np.cos(angles)), self._tensors.exact(np.sin(angles))
            self._rotations[rope] = Rotation(cosines=cosines, sines=sines)
        rotation = self._rotations[rope]
        if not head_norm:
            return rotation
        return Rotation(
            cosines=rotation.cosines,
            sines=rotation.sines,
            query_norm=self.norm(f"layers.{index}.q_norm", rms=True),
            key_norm=self.norm(f"layers.{index}.k_norm", rms=True),
        )
