"""Launch configurations of the kernels, the best of sweeps on an H100 where nothing else is said."""

import torch
import triton

TILE_ROWS = 64  #: maximum number of queries per attention program
LONG_TEXT_TOKENS = 96  #: a text with at least this many tokens starts a new tile


def max_tiles(num_tokens: int) -> int:
    """An upper bound on the tiles for `num_tokens`: each long text leaves at most one tile unfilled."""
    return -(-num_tokens // TILE_ROWS) + num_tokens // LONG_TEXT_TOKENS


def text_grid(num_texts: int) -> tuple[int]:
    """One program per text, up to a number that batches rarely exceed."""
    return (min(num_texts, 1024),)


def row_config(width: int) -> dict[str, int]:
    """Rows and columns per program: about 2,048 elements keep loads in flight without register spills."""
    block = triton.next_power_of_2(width)
    return {
        "WIDTH": width,
        "BLOCK": block,
        "ROWS": max(1, 2048 // block),
        "num_warps": 8 if block > 4096 else 4,
    }


def attention_tile(dtype: torch.dtype, head_dim: int) -> dict[str, int]:
    """Tile sizes of an attention program: queries and keys per step."""
    if head_dim > 128:
        # Not swept: as small as it must be for queries, keys and values to fit into shared memory.
        keys = 16 if dtype == torch.float32 else 32
        return {"BLOCK_M": TILE_ROWS, "BLOCK_N": keys, "num_warps": 8, "num_stages": 1}
    small = dtype != torch.float32 and head_dim <= 64
    return {"BLOCK_M": TILE_ROWS, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3 if small else 2}
