"""Attention on Hopper's own instructions, for the layers whose every token sees its whole text."""

import ctypes
import math
from pathlib import Path

import structlog
import torch
import triton

from worker.encoder.kernels import segments as text_kernels
from worker.encoder.kernels.cuda_module import Kernel, rows_map
from worker.encoder.network import AttentionWeights, Flat, Network, Tensor

CAPABILITY = (9, 0)
HEAD_DIM = 64
_SOURCE = Path(__file__).with_name("hopper_attention.cu")
_KEYS, _NARROW_ROWS = 64, 16  # rows that one copy brings
_PARTS = 5  # of shared memory: a tile's queries, and the keys and values of two blocks
_MOST_TILES = 65_535  # of a grid's second dimension

log = structlog.stdlib.get_logger(__name__)


class HopperAttention:
    """Compiled for one network's heads and 16-bit type; takes half a second.

    Raises as `Kernel` does.
    """

    def __init__(self, attention: AttentionWeights, dtype: torch.dtype) -> None:
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

    def takes(self, qkv: Tensor, flat: Flat, attention: AttentionWeights) -> bool:
        """True if it computes this layer of this batch; heads and types other than its own it does not."""
        shape = attention.heads, attention.kv_heads, qkv.dtype
        return (
            flat.spans is not None
            and len(flat.spans) <= _MOST_TILES
            and shape == (self._heads, self._kv_heads, self._dtype)
            and _is_plain(attention)
        )

    def attend(self, qkv: Tensor, flat: Flat, attention: AttentionWeights) -> Tensor:
        """Softmax attention within each text, as `Kernels.attend` has it."""
        out = qkv.new_empty(len(qkv), self._heads * HEAD_DIM)
        wide, narrow = (rows_map(qkv, columns=HEAD_DIM, num_rows=rows) for rows in (_KEYS, _NARROW_ROWS))
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
    """Attention for the network's plain layers; None if it has none, or GPU or software do not do."""
    weight = network.embeddings.words
    plain = next((layer.attention for layer in network.layers if _is_plain(layer.attention)), None)
    dtype = torch.bfloat16 if network.layers[0].qkv.quantised else network.layers[0].qkv.weight.dtype
    if plain is None or dtype.itemsize != 2 or torch.cuda.get_device_capability(weight.device) != CAPABILITY:
        return None
    try:
        found = HopperAttention(plain, dtype)
    except (ImportError, OSError, RuntimeError) as error:
        log.warning("attention_chosen", by="triton", reason=str(error))
        return None
    log.info("attention_chosen", by="hopper", heads=plain.heads, kv_heads=plain.kv_heads)
    return found


def spans_of(flat: Flat) -> Tensor:
    """What `attend` knows of each of the batch's tiles, int32 (tiles, 4)."""
    num_tiles = len(flat.tiles) - 1
    spans = flat.ids.new_empty(num_tiles, 4)
    grid = (triton.cdiv(num_tiles, 128),)
    text_kernels.span[grid](flat.tiles, flat.start, flat.end, spans, num_tiles, BLOCK=128)
    return spans


def _is_plain(attention: AttentionWeights) -> bool:
    """True if nothing is added to scores and no key of a text is left out."""
    only_scaled = attention.bias is None and attention.scale > 0
    return attention.head_dim == HEAD_DIM and only_scaled and not attention.causal and attention.window == 0
