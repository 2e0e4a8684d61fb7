"""A network on its device, as data: tensors in the order in which a forward pass needs them."""

from dataclasses import dataclass
from typing import Any, Literal

Tensor = Any  # torch.Tensor; torch is not type-checked here


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """LayerNorm, or RMSNorm if `rms`, over the last axis; weight and bias are float32."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    rms: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaticScale:
    """What 1.0 in fp8 stands for in every row alike: `size`, a power of two, and 1 / size, () float32."""

    size: Tensor
    inverse: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """y = x @ weight.T + bias. With `scale` float32 the weight is fp8, and so are the rows that it reads.

    These come in one `unit`, and `scale` is (); or each with a scale of its own, and `scale` is (out,).
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None = None
    unit: StaticScale | None = None

    @property
    def quantised(self) -> bool:
        """True if it reads fp8 rows."""
        return self.scale is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """Word rows plus position rows, then a norm; a constant token type is part of the positions.

    Without `norm` and without `positions` the word rows are taken as they are.
    """

    words: Tensor
    positions: Tensor | None
    position_offset: int
    norm: Norm | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rotation:
    """Rotary positions: `cosines` and `sines` are float32 (positions, head_dim / 2).

    With `query_norm` and `key_norm` (RMS, over a head) heads are normed before they are rotated.
    """

    cosines: Tensor
    sines: Tensor
    query_norm: Norm | None = None
    key_norm: Norm | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionWeights:
    """How a layer attends. `bias` is float32 (heads, 2 * bias_reach + 1), by key minus query position.

    A key is at most `window` tokens away (0: any number), and not behind the query if `causal`.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    bias: Tensor | None = None
    bias_reach: int = 0
    causal: bool = False
    window: int = 0
    rotation: Rotation | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One layer; each norm is applied to the sum of a branch and the stream."""

    qkv: Linear
    attention: AttentionWeights
    out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """Everything of an encoder up to its token vectors.

    The stream that branches are added to is the norm's result if `post_norm`, else the bare sum; `first_norm`
    then stands before the first layer if the embeddings have none.
    """

    embeddings: Embeddings
    first_norm: Norm | None
    layers: tuple[Layer, ...]
    activation: Literal["gelu", "gelu_tanh", "relu", "silu"]
    gated: bool
    post_norm: bool


@dataclass(frozen=True, slots=True, eq=False)
class Flat:
    """Texts on the device: `ids`, `start`, `end` int32 (T,), `offsets` int32 (n + 1,).

    Token t belongs to the text at [start[t], end[t]). Tokens behind offsets[n] are padding and have
    start == end; a text with offsets[i] == offsets[i + 1] is none. `tiles` is what attention on a GPU works
    on: consecutive tokens [tiles[i], tiles[i + 1]). `spans` (tiles, 4) is what HopperAttention knows of each.
    """

    ids: Tensor
    offsets: Tensor
    start: Tensor
    end: Tensor
    tiles: Tensor = None
    spans: Tensor = None


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """What a linear layer reads: `values` (T, k), or fp8 `quantised` (T, k) with its `scale`, or both.

    `scale` is (T,), or () where all rows have the same. What is not there is None; the layer's own precision
    says which one it reads.
    """

    values: Tensor
    quantised: Tensor = None
    scale: Tensor = None
