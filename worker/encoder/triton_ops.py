"""`Ops` on a CUDA GPU: Triton for memory-bound operations, cuBLAS for matmuls, our attention on Hopper."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import triton

from worker.encoder.forward import PoolingOverTokens
from worker.encoder.kernels import attention as attention_kernels
from worker.encoder.kernels import rows as row_kernels
from worker.encoder.kernels import segments as segment_kernels
from worker.encoder.kernels.cublaslt import MatmulKind
from worker.encoder.kernels.hopper import HopperAttention, hopper_attention, spans_of
from worker.encoder.kernels.launch_config import (
    LONG_TEXT_TOKENS,
    TILE_ROWS,
    attention_tile,
    max_tiles,
    row_config,
    text_grid,
)
from worker.encoder.kernels.matmul import Matmuls, fuses_gelu, is_tunable
from worker.models.network import AttentionSpec, Embeddings, Flat, Linear, Network, Norm, Rows, Tensor

ROWS_MULTIPLE = 128  #: every number of rows is a multiple of this
HEAD_DIMS = (16, 32, 64, 128, 256)
_FP8 = torch.float8_e4m3fn


class TritonOps:
    """Kernels for one CUDA device, all capturable: none synchronises or branches on data of the device."""

    def __init__(self, matmuls: Matmuls | None = None) -> None:
        self._matmuls = matmuls or Matmuls()
        self._hopper: HopperAttention | None = None

    def prepare(self, network: Network, num_tokens: int) -> None:
        """Autotune the matmuls for batches of `num_tokens`, and on a Hopper GPU compile its attention."""
        self._hopper = self._hopper or hopper_attention(network)
        self._matmuls.autotune(_tunable_layers(network), num_tokens)

    def segment(self, ids: Tensor, offsets: Tensor) -> Flat:
        """The batch with the bounds of each token's text; tokens from offsets[-1] on are padding."""
        start, end = torch.empty_like(ids), torch.empty_like(ids)
        num_texts = len(offsets) - 1
        segment_kernels.segment[text_grid(num_texts + 1)](offsets, start, end, num_texts, len(ids), BLOCK=128)
        num_tiles = max_tiles(len(ids))
        tiles = ids.new_empty(num_tiles + 1)
        segment_kernels.cut_tiles[1,](
            offsets, tiles, num_texts, len(ids), num_tiles, LONG=LONG_TEXT_TOKENS, ROWS=TILE_ROWS, BLOCK=1024
        )
        flat = Flat(ids, offsets, start, end, tiles)
        return flat if self._hopper is None else replace(flat, spans=spans_of(flat))

    def embed(self, flat: Flat, embeddings: Embeddings, *, reader: Linear | None) -> Rows:
        """The embeddings of all tokens (T, hidden)."""
        words, norm = embeddings.words, embeddings.norm
        numbered = _numbered(flat, embeddings)
        out = _empty_rows(len(flat.ids), words.shape[1], words, reader)
        config = row_config(words.shape[1])
        row_kernels.embed_norm[(len(flat.ids) // config["ROWS"],)](
            flat.ids,
            flat.start,
            numbered,
            words,
            embeddings.positions,
            norm and norm.weight,
            norm and norm.bias,
            **_outputs(out, reader),
            NUMBERED=numbered is not None,
            NUM_POSITIONS=0 if embeddings.positions is None else len(embeddings.positions),
            HAS_NORM=norm is not None,
            EPS=norm.eps if norm else 0.0,
            RMS=norm is not None and norm.rms,
            HAS_BIAS=norm is not None and norm.bias is not None,
            **config,
        )
        return out

    def linear(self, rows: Rows, linear: Linear) -> Tensor:
        """The layer's output (T, out)."""
        return self._matmuls.linear(rows, linear)

    def up(self, rows: Rows, linear: Linear, activation: str, *, gated: bool, reader: Linear) -> Rows:
        """activation(layer(rows)), optionally gated."""
        if activation == "gelu_tanh" and not gated:
            fused = self._matmuls.gelu(rows, linear, reader)
            if fused is not None:
                return fused
        x = self.linear(rows, linear)
        width = x.shape[1] // 2 if gated else x.shape[1]
        out = _empty_rows(len(x), width, x, reader, keep=not reader.quantised)
        config = row_config(width)
        row_kernels.activate[(len(x) // config["ROWS"],)](
            x, **_outputs(out, reader), ACTIVATION=activation, GATED=gated, **config
        )
        return out

    def rotate(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """qkv with queries and keys normalised and rotated, in place."""
        rotation = attention.rotation
        assert rotation is not None
        query_norm, key_norm = rotation.query_norm, rotation.key_norm
        rows = 32
        attention_kernels.rotate[(attention.heads + attention.kv_heads, len(qkv) // rows)](
            qkv,
            flat.start,
            rotation.cosines,
            rotation.sines,
            query_norm and query_norm.weight,
            key_norm and key_norm.weight,
            HAS_NORM=query_norm is not None,
            EPS=query_norm.eps if query_norm else 0.0,
            NUM_POSITIONS=len(rotation.cosines),
            HEADS=attention.heads,
            KV_HEADS=attention.kv_heads,
            HALF=attention.head_dim // 2,
            ROWS=rows,
        )
        return qkv

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """Softmax attention within each text."""
        if self._hopper is not None and self._hopper.supports(qkv, flat, attention):
            return self._hopper.attend(qkv, flat, attention)
        out = qkv.new_empty(len(qkv), attention.heads * attention.head_dim)
        tile = attention_tile(qkv.dtype, attention.head_dim)
        attention_kernels.attend[(attention.heads, len(flat.tiles) - 1)](
            qkv,
            out,
            flat.tiles,
            flat.start,
            flat.end,
            attention.bias,
            MAX_DISTANCE=attention.max_distance,
            HEADS=attention.heads,
            KV_HEADS=attention.kv_heads,
            DIM=attention.head_dim,
            SCALE=attention.scale,
            CAUSAL=attention.causal,
            WINDOW=attention.window,
            CAP=attention.cap,
            PRECISION="ieee" if qkv.dtype == torch.float32 else "tf32",
            **tile,
        )
        return out

    def norm(self, x: Tensor, norm: Norm, *, reader: Linear | None) -> Rows:
        """norm(x)."""
        return self._sum_norm(x, None, None, norm, keep_sum=False, reader=reader)

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
        in_norm = branch_norm is not None or _is_summed_in_norm(linear, keep_sum=keep_sum)
        if linear.quantised or in_norm:
            x = self.linear(rows, linear)
            return self._sum_norm(
                x, residual, None, norm, branch_norm=branch_norm, keep_sum=keep_sum, reader=reader
            )
        if keep_sum and linear.bias is not None:
            residual += linear.bias
        # The matmul accumulates into the residual, so that the norm reads one tensor fewer.
        x = self._matmuls.add(rows, linear, residual)
        addend = None if keep_sum else linear.bias
        return self._sum_norm(x, None, addend, norm, keep_sum=False, reader=reader)

    def _sum_norm(
        self,
        x: Tensor,
        residual: Tensor | None,
        addend: Tensor | None,
        norm: Norm,
        *,
        branch_norm: Norm | None = None,
        keep_sum: bool,
        reader: Linear | None,
    ) -> Rows:
        out = _empty_rows(len(x), x.shape[1], x, reader)
        config = row_config(x.shape[1])
        row_kernels.add_norm[(len(x) // config["ROWS"],)](
            x,
            residual,
            addend,
            branch_norm and branch_norm.weight,
            norm.weight,
            norm.bias,
            **_outputs(out, reader),
            HAS_RESIDUAL=residual is not None,
            KEEP_SUM=keep_sum,
            HAS_ADDEND=addend is not None,
            HAS_BRANCH_NORM=branch_norm is not None,
            EPS=norm.eps,
            RMS=norm.rms,
            HAS_BIAS=norm.bias is not None,
            **config,
        )
        return out

    def pool(self, x: Tensor, flat: Flat, mode: PoolingOverTokens) -> Tensor:
        """One float32 row per text (n, hidden); rows of empty texts are left uninitialised."""
        num_texts, width = len(flat.offsets) - 1, x.shape[1]
        out = x.new_empty(num_texts, width, dtype=torch.float32)
        grid = (*text_grid(num_texts), triton.cdiv(width, 128))
        segment_kernels.pool[grid](
            x, flat.pooled_from, flat.offsets, out, num_texts, MODE=mode, WIDTH=width, ROWS=32, BLOCK=128
        )
        return out

    def normalise(self, vectors: Tensor, flat: Flat) -> Tensor:
        """Rows scaled to unit length, in place."""
        width = vectors.shape[1]
        block = triton.next_power_of_2(width)
        segment_kernels.normalise[text_grid(len(vectors))](
            vectors, flat.offsets, len(vectors), WIDTH=width, BLOCK=block
        )
        return vectors


def _numbered(flat: Flat, embeddings: Embeddings) -> Tensor | None:
    """Each token's row of a position table with a row for padding; None if the place in the text is the row.

    Padding after the last text gets row 0.
    """
    if embeddings.positions is None or embeddings.position_offset == 0:
        return None
    numbered, num_texts = torch.zeros_like(flat.ids), len(flat.offsets) - 1
    segment_kernels.number_tokens[text_grid(num_texts)](
        flat.ids, flat.offsets, numbered, num_texts, PADDING=embeddings.position_offset - 1, BLOCK=256
    )
    return numbered


def _is_summed_in_norm(linear: Linear, *, keep_sum: bool) -> bool:
    """True if the norm kernel adds the residual: bf16 loses a quarter more accuracy if the matmul does."""
    return linear.weight.dtype == torch.bfloat16 and not keep_sum


def _tunable_layers(network: Network) -> Iterator[tuple[MatmulKind, Linear]]:
    """The layers whose matmul can be autotuned, each with the kind of matmul that `TritonOps` uses."""
    tanh_gelu = network.activation == "gelu_tanh" and not network.gated
    for layer in network.layers:
        for linear in (layer.qkv, layer.out, layer.up, layer.down):
            if not is_tunable(linear):
                continue
            ends_branch = linear is layer.out or linear is layer.down
            in_norm = layer.out_norm is not None or _is_summed_in_norm(linear, keep_sum=not network.post_norm)
            added = not linear.quantised and not in_norm
            if ends_branch and added:
                yield "add", linear
            elif tanh_gelu and linear is layer.up and fuses_gelu(linear, layer.down):
                yield "gelu", linear
            else:
                yield ("plain" if linear.bias is None else "bias"), linear


def _empty_rows(num_rows: int, width: int, like: Tensor, reader: Linear | None, *, keep: bool = True) -> Rows:
    values = like.new_empty(num_rows, width) if keep else None
    if reader is None or not reader.quantised:
        return Rows(values)
    quantised = like.new_empty(num_rows, width, dtype=_FP8)
    static_scale = reader.static_scale
    scale = static_scale.value if static_scale else like.new_empty(num_rows, dtype=torch.float32)
    return Rows(values, quantised, scale)


def _outputs(rows: Rows, reader: Linear | None) -> dict[str, Any]:
    """The output arguments of a kernel in rows.py."""
    static_scale = reader and reader.static_scale
    fp8 = 0 if rows.quantised is None else 2 if static_scale else 1
    scale = static_scale.inverse if static_scale else rows.scale
    return {"out": rows.values, "quantised": rows.quantised, "scale": scale, "FP8": fp8}
