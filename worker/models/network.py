"""The data classes of a network on its device, in the order in which the forward pass uses them."""

from dataclasses import dataclass
from typing import Any, Literal

Tensor = Any  # torch.Tensor; torch's types are not checked


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Norm:
    """LayerNorm, or RMSNorm if `rms`, over the last axis; weight and bias are float32."""

    weight: Tensor
    bias: Tensor | None
    eps: float
    rms: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StaticScale:
    """One fp8 scale for all rows of a layer's input: a power of two and its inverse, float32 ()."""

    value: Tensor
    inverse: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Linear:
    """y = x @ weight.T + bias. With a float32 `scale` the weight is fp8, and the layer reads fp8 rows.

    With `static_scale` all input rows share it and `scale` is (); without, every input row has its own scale
    and `scale` is (out,).
    """

    weight: Tensor
    bias: Tensor | None
    scale: Tensor | None = None
    static_scale: StaticScale | None = None

    @property
    def quantised(self) -> bool:
        """True if it reads fp8 rows."""
        return self.scale is not None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embeddings:
    """Word rows plus position rows, then a norm; the constant token type is already added to a table.

    The first token of a text has the position row `position_offset`. If the table has a row before that, it
    is the padding's, and its index the padding's id: a padding token written out in a text gets that row and
    is not counted, as in transformers. Without `positions` and `norm` the word rows are used unchanged.
    """

    words: Tensor
    positions: Tensor | None
    position_offset: int
    norm: Norm | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rotation:
    """Rotary positions: `cosines` and `sines` are float32 (positions, head_dim / 2).

    With `query_norm` and `key_norm` (RMSNorm over a head), heads are normalised before rotation.
    """

    cosines: Tensor
    sines: Tensor
    query_norm: Norm | None = None
    key_norm: Norm | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AttentionSpec:
    """How a layer attends. `bias` is float32 (heads, 2 * max_distance + 1), by key minus query position.

    A key is at most `window` tokens away (0: unlimited) and, if `causal`, not after the query. With `cap`, a
    score is cap * tanh(score / cap) before it is masked.
    """

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    bias: Tensor | None = None
    max_distance: int = 0
    causal: bool = False
    window: int = 0
    cap: float = 0.0
    rotation: Rotation | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """One layer; each norm is applied to the sum of a branch's output and the residual.

    `out_norm` and `down_norm`, if there are any, are applied to the branches before they are added.
    """

    qkv: Linear
    attention: AttentionSpec
    out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    output_norm: Norm
    out_norm: Norm | None = None
    down_norm: Norm | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Network:
    """An encoder up to its token vectors.

    With `post_norm` the residual is the output of the last norm. Otherwise it is the sum itself, and
    `first_norm` precedes the first layer unless the embeddings have a norm.
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

    Token t belongs to the text at [start[t], end[t]). Tokens from offsets[n] on are padding and have
    start == end; entries with offsets[i] == offsets[i + 1] are not texts. `firsts` int32 (n,) is the index of
    each text's first pooled token, None if all are pooled. Attention on a GPU works on `tiles`
    of consecutive tokens [tiles[i], tiles[i + 1]). `spans` (tiles, 4) describes each for HopperAttention.
    """

    ids: Tensor
    offsets: Tensor
    start: Tensor
    end: Tensor
    tiles: Tensor = None
    spans: Tensor = None
    firsts: Tensor = None

    @property
    def pooled_from(self) -> Tensor:
        """The index of the first pooled token of each text, int32 (n,); of those that are no texts, any."""
        return self.offsets[:-1] if self.firsts is None else self.firsts


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """The input of a linear layer: `values` (T, k), or fp8 `quantised` (T, k) with its `scale`, or both.

    `scale` is (T,), or () if all rows share it. Absent fields are None; the layer's precision decides which
    it reads.
    """

    values: Tensor
    quantised: Tensor = None
    scale: Tensor = None
