"""Rotary positions as a config.json states them, in the spellings of transformers 4 and 5."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """Llama 3's way to longer texts: slow frequencies divided by `factor`, fast ones kept, some between."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """Frequencies of one layer's rotation."""

    theta: float
    stretch: Stretch | None = None

    def inverse_frequencies(self, head_dim: int) -> npt.NDArray[np.float32]:
        """Radians a token for each pair of a head's units, float32 (head_dim / 2,)."""
        frequencies: npt.NDArray[np.float32] = (
            1.0 / self.theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
        ).astype(np.float32)
        if self.stretch is None:
            return frequencies
        stretch = self.stretch
        turns = stretch.original_max_positions * frequencies / (2 * math.pi)
        span = stretch.high_freq_factor - stretch.low_freq_factor
        kept = np.clip((turns - stretch.low_freq_factor) / span, 0, 1)
        stretched: npt.NDArray[np.float32] = (
            (1 - kept) * frequencies / stretch.factor + kept * frequencies
        ).astype(np.float32)
        return stretched


def read_rope(config: Mapping[str, Any], *, default_theta: float, kind: str | None = None) -> Rope:
    """The rotation in a config's rope_parameters (of its layer kind, if it has several) or rope_theta.

    Raises ModelError for a scaling other than "default" and "llama3", and for rotations of a part of a head.
    """
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if kind is not None:
        parameters = parameters.get(kind) or {}
    theta = parameters.get("rope_theta") or config.get("rope_theta") or default_theta
    scaling = parameters.get("rope_type") or parameters.get("type") or "default"
    if scaling not in ("default", "llama3"):
        raise ModelError(
            f"config.json scales rotary positions by {scaling!r:.60}; supported: default, llama3"
        )
    if parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ModelError("config.json rotates only a part of each head; that is not supported")
    if scaling == "default":
        return Rope(theta=float(theta))
    try:
        stretch = Stretch(
            factor=float(parameters["factor"]),
            low_freq_factor=float(parameters["low_freq_factor"]),
            high_freq_factor=float(parameters["high_freq_factor"]),
            original_max_positions=float(parameters["original_max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"config.json has llama3 rotary positions without a usable {error}") from error
    return Rope(theta=float(theta), stretch=stretch)
