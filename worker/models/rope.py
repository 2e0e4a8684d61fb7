"""Rotary position embeddings, read from a config.json with the keys of transformers 4 or 5."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.errors import ModelError


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """Llama 3's scaling for longer texts: low frequencies are divided by `factor`, high ones are kept."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rope:
    """The rotary frequencies of one layer; all are divided by `divisor`."""

    theta: float
    scaling: RopeScaling | None = None
    divisor: float = 1.0

    def inverse_frequencies(self, head_dim: int) -> npt.NDArray[np.float32]:
        """Radians per token for each pair of a head's dimensions, float32 (head_dim / 2,)."""
        frequencies: npt.NDArray[np.float32] = (
            1.0 / self.theta ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim) / self.divisor
        ).astype(np.float32)
        if self.scaling is None:
            return frequencies
        scaling = self.scaling
        rotations = scaling.original_max_positions * frequencies / (2 * math.pi)
        span = scaling.high_freq_factor - scaling.low_freq_factor
        kept = np.clip((rotations - scaling.low_freq_factor) / span, 0, 1)
        scaled: npt.NDArray[np.float32] = (
            (1 - kept) * frequencies / scaling.factor + kept * frequencies
        ).astype(np.float32)
        return scaled


def read_rope(config: Mapping[str, Any], *, default_theta: float, kind: str | None = None) -> Rope:
    """The frequencies in a config's rope_parameters (those of layer type `kind`, if given) or rope_theta.

    Raises ModelError for types other than "default", "linear" and "llama3", and for partial rotation of a
    head.
    """
    parameters = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if kind is not None:
        parameters = parameters.get(kind) or {}
    theta = parameters.get("rope_theta") or config.get("rope_theta") or default_theta
    rope_type = parameters.get("rope_type") or parameters.get("type") or "default"
    if rope_type not in ("default", "linear", "llama3"):
        raise ModelError(
            f"config.json has rotary positions of type {rope_type!r:.60}; "
            "supported are default, linear and llama3"
        )
    if parameters.get("partial_rotary_factor", config.get("partial_rotary_factor", 1.0)) != 1.0:
        raise ModelError("config.json rotates only a part of each head, which is not supported")
    if rope_type == "default":
        return Rope(theta=float(theta))
    try:
        if rope_type == "linear":
            return Rope(theta=float(theta), divisor=float(parameters["factor"]))
        scaling = RopeScaling(
            factor=float(parameters["factor"]),
            low_freq_factor=float(parameters["low_freq_factor"]),
            high_freq_factor=float(parameters["high_freq_factor"]),
            original_max_positions=float(parameters["original_max_position_embeddings"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"config.json has {rope_type} rotary positions with a missing or invalid value: {error}"
        ) from error
    return Rope(theta=float(theta), scaling=scaling)
