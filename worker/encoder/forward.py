"""The forward pass over flat tokens, the same for every device."""

from typing import Literal, Protocol

from worker.encoder.network import (
    AttentionWeights,
    Embeddings,
    Flat,
    Layer,
    Linear,
    Network,
    Norm,
    Rows,
    Tensor,
)


class Ops(Protocol):
    """The operations of a forward pass on one kind of device; sums, norms and pooling are float32 inside.

    `reader` is the layer that reads the rows next: they come in fp8 too if it wants that.
    """

    def prepare(self, network: Network, num_tokens: int) -> None:
        """Whatever makes batches of `num_tokens` faster; slow, and called before the first of them."""

    def place(self, ids: Tensor, offsets: Tensor) -> Flat:
        """The batch with the text of each token."""

    def embed(self, flat: Flat, embeddings: Embeddings, *, reader: Linear | None) -> Rows:
        """The tokens' first vectors (T, hidden), normed."""

    def linear(self, rows: Rows, linear: Linear) -> Tensor:
        """The layer's output (T, out) in the network's 16-bit type, or fp32."""

    def up(self, rows: Rows, linear: Linear, activation: str, *, gated: bool, reader: Linear) -> Rows:
        """The layer's output behind the activation; its first half times its second if `gated`."""

    def rotate(self, qkv: Tensor, flat: Flat, attention: AttentionWeights) -> Tensor:
        """qkv with queries and keys normed and turned as the layer's rotation says; may overwrite it."""

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionWeights) -> Tensor:
        """Softmax attention within each text: (T, (heads + 2 kv_heads) head_dim) -> (T, heads head_dim)."""

    def norm(self, x: Tensor, norm: Norm, *, reader: Linear | None) -> Rows:
        """norm(x)."""

    def add_norm(
        self,
        rows: Rows,
        linear: Linear,
        stream: Tensor,
        norm: Norm,
        *,
        keep_sum: bool,
        reader: Linear | None,
    ) -> Rows:
        """norm(the layer's output + stream). `stream` then holds the sum if `keep_sum`, else anything."""

    def pool(self, x: Tensor, flat: Flat, mode: Literal["mean", "mean_sqrt_len_tokens", "max"]) -> Tensor:
        """One float32 row a text (n, hidden)."""

    def normalise(self, vectors: Tensor, flat: Flat) -> Tensor:
        """Rows of unit length; may overwrite its input."""


def token_vectors(network: Network, kernels: Ops, flat: Flat, *, only: Tensor | None = None) -> Tensor:
    """The last layer's vectors (T, hidden) in the network's own type, or those of the tokens `only` (m,)."""
    layers = network.layers
    first = layers[0].qkv
    rows = kernels.embed(flat, network.embeddings, reader=first if network.first_norm is None else None)
    stream = rows.values
    if network.first_norm is not None:
        rows = kernels.norm(stream, network.first_norm, reader=first)
    for index, layer in enumerate(layers):
        qkv = kernels.linear(rows, layer.qkv)
        if layer.attention.rotation is not None:
            qkv = kernels.rotate(qkv, flat, layer.attention)
        attended = kernels.attend(qkv, flat, layer.attention)
        last = index == len(layers) - 1
        if last and only is not None:
            # Nobody reads the other tokens any more.
            attended, stream = attended[only], stream[only]
        reader = None if last else layers[index + 1].qkv
        rows = _tail(network, kernels, layer, attended, stream, reader=reader)
        if network.post_norm:
            stream = rows.values
    return rows.values


def _tail(
    network: Network,
    kernels: Ops,
    layer: Layer,
    attended: Tensor,
    stream: Tensor,
    *,
    reader: Linear | None,
) -> Rows:
    """Everything of a layer that works on each token by itself."""
    keep_sum = not network.post_norm
    rows = kernels.add_norm(
        Rows(attended), layer.out, stream, layer.attention_norm, keep_sum=keep_sum, reader=layer.up
    )
    if network.post_norm:
        stream = rows.values
    lifted = kernels.up(rows, layer.up, network.activation, gated=network.gated, reader=layer.down)
    return kernels.add_norm(lifted, layer.down, stream, layer.output_norm, keep_sum=keep_sum, reader=reader)
