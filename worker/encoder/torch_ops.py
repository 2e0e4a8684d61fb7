"""`Ops` with plain torch operations: for the CPU, in any precision."""

import itertools

import torch
import torch.nn.functional as F

from worker.encoder.forward import PoolingOverTokens
from worker.encoder.quantisation import rows_for
from worker.models.network import AttentionSpec, Embeddings, Flat, Linear, Network, Norm, Rows, Tensor

_ACTIVATIONS = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class TorchOps:
    """Plain torch operations; attention handles one text at a time, unaffected by its batch-mates."""

    def prepare(self, network: Network, num_tokens: int) -> None:
        """Do nothing: there is nothing to autotune."""

    def segment(self, ids: Tensor, offsets: Tensor) -> Flat:
        """The batch with the bounds of each token's text."""
        lengths = torch.diff(offsets)
        start = torch.repeat_interleave(offsets[:-1], lengths)
        end = torch.repeat_interleave(offsets[1:], lengths)
        return Flat(ids, offsets, start, end)

    def embed(self, flat: Flat, embeddings: Embeddings, *, reader: Linear | None) -> Rows:
        """The embeddings of all tokens (T, hidden)."""
        x = embeddings.words[flat.ids].float()
        if embeddings.positions is not None:
            x = x + embeddings.positions[_position_rows(flat, embeddings.position_offset)].float()
        if embeddings.norm is not None:
            x = _normalise(x, embeddings.norm)
        return rows_for(reader, x, embeddings.words.dtype)

    def linear(self, rows: Rows, linear: Linear) -> Tensor:
        """The layer's output (T, out)."""
        if linear.scale is None:
            return F.linear(rows.values, linear.weight, linear.bias)
        # Emulates the GPU's fp8 matmul: the same fp8 numbers, multiplied and summed in fp32.
        x = rows.quantised.float() * rows.scale[..., None]
        weight = linear.weight.float() * linear.scale[..., None]
        bias = None if linear.bias is None else linear.bias.float()
        return F.linear(x, weight, bias).to(torch.bfloat16)

    def up(self, rows: Rows, linear: Linear, activation: str, *, gated: bool, reader: Linear) -> Rows:
        """activation(layer(rows)), optionally gated."""
        x = self.linear(rows, linear)
        inner = x.float()
        if gated:
            activated, factor = inner.chunk(2, dim=1)
            inner = _ACTIVATIONS[activation](activated) * factor
        else:
            inner = _ACTIVATIONS[activation](inner)
        return rows_for(reader, inner, x.dtype)

    def rotate(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """qkv with queries and keys normalised and rotated."""
        rotation = attention.rotation
        assert rotation is not None
        heads, kv_heads, dim = attention.heads, attention.kv_heads, attention.head_dim
        q, k, v = qkv.split([heads * dim, kv_heads * dim, kv_heads * dim], dim=1)
        index = torch.arange(len(qkv), device=qkv.device, dtype=torch.int32) - flat.start
        tables = rotation.cosines[index][:, None], rotation.sines[index][:, None]
        rotated = [
            _rotate(part.reshape(len(qkv), -1, dim).float(), norm, *tables).to(qkv.dtype).flatten(1)
            for part, norm in ((q, rotation.query_norm), (k, rotation.key_norm))
        ]
        return torch.cat([*rotated, v], dim=1)

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """Softmax attention within each text."""
        heads, kv_heads, dim = attention.heads, attention.kv_heads, attention.head_dim
        q, k, v = qkv.split([heads * dim, kv_heads * dim, kv_heads * dim], dim=1)
        out = torch.empty_like(q)
        bounds = flat.offsets.tolist()
        for low, high in itertools.pairwise(bounds):
            parts = (
                q[low:high].view(-1, heads, dim).transpose(0, 1)[None],
                k[low:high].view(-1, kv_heads, dim).transpose(0, 1)[None],
                v[low:high].view(-1, kv_heads, dim).transpose(0, 1)[None],
            )
            mask = _mask(attention, high - low, qkv)
            if attention.cap:
                attended = _capped_attention(*parts, mask, attention)
            else:
                attended = F.scaled_dot_product_attention(
                    *parts, attn_mask=mask, scale=attention.scale, enable_gqa=kv_heads != heads
                )
            out[low:high] = attended[0].transpose(0, 1).flatten(1)
        return out

    def norm(self, x: Tensor, norm: Norm, *, reader: Linear | None) -> Rows:
        """norm(x)."""
        return rows_for(reader, _normalise(x.float(), norm), x.dtype)

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
        """norm(layer(rows) + residual), the branch normalised too if it has a norm."""
        branch = self.linear(rows, linear).float()
        if branch_norm is not None:
            branch = _normalise(branch, branch_norm)
        total = branch + residual.float()
        if keep_sum:
            residual.copy_(total)
        return rows_for(reader, _normalise(total, norm), residual.dtype)

    def pool(self, x: Tensor, flat: Flat, mode: PoolingOverTokens) -> Tensor:
        """One float32 row per text (n, hidden)."""
        bounds = zip(flat.pooled_from.tolist(), flat.offsets[1:].tolist(), strict=True)
        texts = [x[first:end].float() for first, end in bounds]
        if mode == "max":
            return torch.stack([text.amax(0) for text in texts])
        if mode == "weightedmean":
            num_before = (flat.pooled_from - flat.offsets[:-1]).tolist()
            return torch.stack(list(map(_weighted_mean, texts, num_before)))
        power = 1.0 if mode == "mean" else 0.5
        return torch.stack([text.sum(0) / len(text) ** power for text in texts])

    def normalise(self, vectors: Tensor, flat: Flat) -> Tensor:
        """Rows scaled to unit length."""
        return F.normalize(vectors, dim=1, eps=1e-12)


def _weighted_mean(rows: Tensor, num_before: int) -> Tensor:
    """The mean of the rows after the first of a text, each with its place, counted from 1, as its weight."""
    places = 1 + num_before + torch.arange(len(rows), device=rows.device, dtype=torch.float32)
    return (rows * places[:, None]).sum(0) / places.sum()


def _normalise(x: Tensor, norm: Norm) -> Tensor:
    if norm.rms:
        return F.rms_norm(x, x.shape[-1:], norm.weight, norm.eps)
    return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)


def _rotate(x: Tensor, norm: Norm | None, cosines: Tensor, sines: Tensor) -> Tensor:
    """float32 heads (T, heads, head_dim), with each head's first half rotated against its second."""
    first, second = (x if norm is None else _normalise(x, norm)).chunk(2, dim=2)
    return torch.cat([first * cosines - second * sines, second * cosines + first * sines], dim=2)


def _capped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, attention: AttentionSpec
) -> Tensor:
    """Attention of one text (1, heads, length, head_dim) whose scores are capped, which torch has not."""
    shared = attention.heads // attention.kv_heads
    k, v = (part.repeat_interleave(shared, dim=1) for part in (k, v))
    scores = q.float() @ k.float().mT * attention.scale
    scores = torch.tanh(scores / attention.cap) * attention.cap
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1).to(v.dtype) @ v


def _mask(attention: AttentionSpec, length: int, like: Tensor) -> Tensor | None:
    """The mask added to a text's scores, (heads or 1, length, length); None if no key is masked."""
    if attention.bias is None and not attention.causal and not attention.window:
        return None
    position = torch.arange(length, device=like.device)
    distance = position[None, :] - position[:, None]
    mask = torch.zeros(1, length, length, dtype=like.dtype, device=like.device)
    if attention.bias is not None:
        mask = attention.bias[:, distance + attention.max_distance].to(like.dtype)
    if attention.causal:
        mask = mask.masked_fill(distance > 0, float("-inf"))
    if attention.window:
        mask = mask.masked_fill(distance.abs() > attention.window, float("-inf"))
    return mask


def _position_rows(flat: Flat, position_offset: int) -> Tensor:
    """Each token's row of the position table, by the rule of worker/graphs/positions.py."""
    padding = position_offset - 1
    counted = flat.ids != padding
    running = counted.cumsum(0)
    before = (running - counted.int())[flat.start]
    return torch.where(counted, running - before + padding, padding)
