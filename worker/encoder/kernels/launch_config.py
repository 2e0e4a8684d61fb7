"""How kernels are cut into programs; each number is the best of a sweep on an H100."""

import torch
import triton

TILE_ROWS = 64  #: queries that an attention program holds at most
LONG_TEXT = 96  #: tokens from which on a text begins a tile of its own


def most_tiles(num_tokens: int) -> int:
    """Tiles that so many tokens may need: each long text leaves at most one tile unfilled."""
    return -(-num_tokens // TILE_ROWS) + num_tokens // LONG_TEXT


def text_grid(num_texts: int) -> tuple[int]:
    """A batch seldom has so many texts: a program each, and few programs that find none."""
    return (min(num_texts, 1024),)


def row_shape(width: int) -> dict[str, int]:
    """Rows a program and its lanes: about 2,048 elements a program keeps loads in flight without spills."""
    block = triton.next_power_of_2(width)
    return {
        "WIDTH": width,
        "BLOCK": block,
        "ROWS": max(1, 2048 // block),
        "num_warps": 8 if block > 4096 else 4,
    }


def attention_tile(dtype: torch.dtype, head_dim: int) -> dict[str, int]:
    """Queries and keys a program holds at once."""
    small = dtype != torch.float32 and head_dim <= 64
    return {"BLOCK_M": TILE_ROWS, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3 if small else 2}
