"""fp8 e4m3 with one scale a row, so that a row's numbers depend on nothing but the row."""

import torch

from worker.encoder.network import Tensor

LARGEST = 448.0  #: of torch.float8_e4m3fn


def quantise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """fp8 (rows, k) and float32 scales (rows,) with x = fp8 * scale, the largest of each row kept exact."""
    scale = x.float().abs().amax(dim=1).clamp_min(1e-12) / LARGEST
    return (x.float() / scale[:, None]).to(torch.float8_e4m3fn), scale
