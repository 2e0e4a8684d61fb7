"""How kernels are cut into programs; each number is the best of a sweep on an H100."""

import torch
import triton


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
    if dtype == torch.float32 or head_dim > 64:
        return {"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 2}
    return {"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 3}
