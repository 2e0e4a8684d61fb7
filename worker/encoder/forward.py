"""The forward pass over flat tokens, shared by all devices."""

from typing import Literal, Protocol

from worker.models.network import (
    AttentionSpec,
    Embeddings,
    Flat,
    Layer,
    Linear,
    Network,
    Norm,
    Rows,
    Tensor,
)

#: The poolings that are computed from all tokens of a text
PoolingOverTokens = Literal["mean", "mean_sqrt_len_tokens", "max", "weightedmean"]


class Ops(Protocol):
    """The operations of a forward pass on one kind of device; sums, norms and pooling compute in float32.

    `reader` is the layer that reads the returned rows; if it reads fp8, they are also returned in fp8.
    """

    def prepare(self, network: Network, num_tokens: int) -> None:
        """Autotune and compile for batches of `num_tokens`; slow, to be called before the first batch."""

    def segment(self, ids: Tensor, offsets: Tensor) -> Flat:
        """The batch with the bounds of each token's text."""

    def embed(self, flat: Flat, embeddings: Embeddings, *, reader: Linear | None) -> Rows:
        """The embeddings of all tokens (T, hidden), normalised if the network has an embedding norm."""

    def linear(self, rows: Rows, linear: Linear) -> Tensor:
        """The layer's output (T, out) in the network's 16-bit type, or fp32."""

    def up(self, rows: Rows, linear: Linear, activation: str, *, gated: bool, reader: Linear) -> Rows:
        """activation(layer(rows)); if `gated`, activation(first half) * second half."""

    def rotate(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """Apply head norms and rotary positions to the queries and keys of `qkv`; may overwrite it."""

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """Softmax attention within each text (T, heads * head_dim)."""

    def norm(self, x: Tensor, norm: Norm, *, reader: Linear | None) -> Rows:
        """norm(x)."""

    def add_norm(
        self,
        rows: Rows,
        linear: Linear,
        residual: Tensor,
        norm: Norm,
        *,
        branch_norm: Norm | None = None,
        keep_sum: bool,
        reader: Linear | None,
    ) -> Rows:
        """norm(layer(rows) + residual), or norm(branch_norm(layer(rows)) + residual).

        Afterwards `residual` holds the sum if `keep_sum`, else anything.
        """

    def pool(self, x: Tensor, flat: Flat, mode: PoolingOverTokens) -> Tensor:
        """One float32 row per text (n, hidden)."""

    def normalise(self, vectors: Tensor, flat: Flat) -> Tensor:
        """Rows scaled to unit length; may overwrite its input."""


def token_vectors(network: Network, ops: Ops, flat: Flat, *, only: Tensor | None = None) -> Tensor:
    """The last layer's vectors (T, hidden) in the network's dtype; with `only` (m,), those tokens alone."""
    layers = network.layers
    if not layers:
        words = ops.embed(flat, network.embeddings, reader=None).values
        return words if only is None else words[only]
    first = layers[0].qkv
    rows = ops.embed(flat, network.embeddings, reader=first if network.first_norm is None else None)
    residual = rows.values
    if network.first_norm is not None:
        rows = ops.norm(residual, network.first_norm, reader=first)
    for index, layer in enumerate(layers):
        qkv = ops.linear(rows, layer.qkv)
        if layer.attention.rotation is not None:
            qkv = ops.rotate(qkv, flat, layer.attention)
        attended = ops.attend(qkv, flat, layer.attention)
        last = index == len(layers) - 1
        if last and only is not None:
            # The other tokens are not read from here on.
            attended, residual = attended[only], residual[only]
        reader = None if last else layers[index + 1].qkv
        rows = _after_attention(network, ops, layer, attended, residual, reader=reader)
        if network.post_norm:
            residual = rows.values
    return rows.values


def _after_attention(
    network: Network,
    ops: Ops,
    layer: Layer,
    attended: Tensor,
    residual: Tensor,
    *,
    reader: Linear | None,
) -> Rows:
    """The token-wise part of a layer: output projection, norms and feed-forward."""
    keep_sum = not network.post_norm
    rows = ops.add_norm(
        Rows(attended),
        layer.out,
        residual,
        layer.attention_norm,
        branch_norm=layer.out_norm,
        keep_sum=keep_sum,
        reader=layer.up,
    )
    if network.post_norm:
        residual = rows.values
    inner = ops.up(rows, layer.up, network.activation, gated=network.gated, reader=layer.down)
    return ops.add_norm(
        inner,
        layer.down,
        residual,
        layer.output_norm,
        branch_norm=layer.down_norm,
        keep_sum=keep_sum,
        reader=reader,
    )
