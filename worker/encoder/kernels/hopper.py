"""Attention with Hopper's wgmma and TMA instructions, for layers in which tokens attend to the whole text."""

import ctypes
import math
from pathlib import Path

import structlog
import torch
import triton

from worker.encoder.kernels import segments as segment_kernels
from worker.encoder.kernels.cuda_module import Kernel, tensor_map
from worker.models.network import AttentionSpec, Flat, Network, Tensor

CAPABILITY = (9, 0)
HEAD_DIM = 64
_SOURCE = Path(__file__).with_name("hopper_attention.cu")
_KEYS, _NARROW_ROWS = 64, 16  # rows per bulk copy
_PARTS = 5  # of shared memory: a tile's queries, and the keys and values of two blocks
_MAX_TILES = 65_535  # the limit of a grid's second dimension

log = structlog.stdlib.get_logger(__name__)


class HopperAttention:
    """Compiled for the heads and the 16-bit dtype of one network, which takes half a second.

    Raises what `Kernel` raises.
    """

    def __init__(self, attention: AttentionSpec, dtype: torch.dtype) -> None:
        self._heads, self._kv_heads, self._dtype = attention.heads, attention.kv_heads, dtype
        self._kernel = Kernel(
            _SOURCE.read_bytes(),
            "attend",
            defines={
                "HEADS": attention.heads,
                "KV_HEADS": attention.kv_heads,
                "BF16": int(dtype == torch.bfloat16),
            },
            shared_bytes=_PARTS * _KEYS * HEAD_DIM * dtype.itemsize,
        )

    def supports(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> bool:
        """True if it supports this layer and batch: heads and dtype match those it was compiled for."""
        shape = attention.heads, attention.kv_heads, qkv.dtype
        return (
            flat.spans is not None
            and len(flat.spans) <= _MAX_TILES
            and shape == (self._heads, self._kv_heads, self._dtype)
            and _is_plain(attention)
        )

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionSpec) -> Tensor:
        """Softmax attention within each text; see `Ops.attend`."""
        out = qkv.new_empty(len(qkv), self._heads * HEAD_DIM)
        wide, narrow = (tensor_map(qkv, columns=HEAD_DIM, num_rows=rows) for rows in (_KEYS, _NARROW_ROWS))
        tensors = (out, flat.spans, flat.start, flat.end)
        self._kernel.launch(
            (self._heads, len(flat.spans)),
            128,
            [
                (wide, None),
                (narrow, None),
                *((tensor.data_ptr(), ctypes.c_void_p) for tensor in tensors),
                (attention.scale * math.log2(math.e), ctypes.c_float),
            ],
        )
        return out


def hopper_attention(network: Network) -> HopperAttention | None:
    """Attention for the network's plain layers; None without such layers or support for them."""
    weight = network.embeddings.words
    plain = next((layer.attention for layer in network.layers if _is_plain(layer.attention)), None)
    if plain is None:
        return None
    dtype = torch.bfloat16 if network.layers[0].qkv.quantised else network.layers[0].qkv.weight.dtype
    if dtype.itemsize != 2 or torch.cuda.get_device_capability(weight.device) != CAPABILITY:
        return None
    try:
        compiled = HopperAttention(plain, dtype)
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("attention_chosen", by="triton", reason=str(error))
        return None
    log.info("attention_chosen", by="hopper", heads=plain.heads, kv_heads=plain.kv_heads)
    return compiled


def spans_of(flat: Flat) -> Tensor:
    """First row, first key, end of keys and number of rows of each tile, int32 (tiles, 4)."""
    num_tiles = len(flat.tiles) - 1
    spans = flat.ids.new_empty(num_tiles, 4)
    grid = (triton.cdiv(num_tiles, 128),)
    segment_kernels.write_spans[grid](flat.tiles, flat.start, flat.end, spans, num_tiles, BLOCK=128)
    return spans


def _is_plain(attention: AttentionSpec) -> bool:
    """True if scores have no bias and every token attends to its whole text."""
    only_scaled = attention.bias is None and attention.cap == 0 and attention.scale > 0
    return attention.head_dim == HEAD_DIM and only_scaled and not attention.causal and attention.window == 0
