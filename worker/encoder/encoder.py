"""Network and head combined: flat token ids in, one vector per text out."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch

from worker.encoder.forward import Ops, token_vectors
from worker.encoder.head_layers import HeadLayers, head_layers, through_head
from worker.encoder.loader import build_network
from worker.models.head import Head
from worker.models.model import Model
from worker.models.network import Flat, Network, Tensor
from worker.models.weights import Weights


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Encoder:
    """Everything between token ids and vectors, on one device."""

    network: Network
    ops: Ops
    head: Head
    head_layers: HeadLayers

    def vectors(self, ids: Tensor, offsets: Tensor, firsts: Tensor | None = None) -> Tensor:
        """float32 (n, dim) for texts given as int32 `ids` (T,) and `offsets` (n + 1,), all on the device.

        `firsts` int32 (n,) is the index of each text's first pooled token; None to pool all.
        """
        flat = replace(self.ops.segment(ids, offsets), firsts=firsts)
        return through_head(
            self.head_layers, self._pooled(flat), lambda vectors: self.ops.normalise(vectors, flat)
        )

    def _pooled(self, flat: Flat) -> Tensor:
        poolings = self.head.poolings
        if poolings in (("cls",), ("lasttoken",)):
            only = _token_index(flat, poolings[0])
            return token_vectors(self.network, self.ops, flat, only=only).float()
        x = token_vectors(self.network, self.ops, flat)
        parts = [
            x[_token_index(flat, mode)].float()
            if mode == "cls" or mode == "lasttoken"  # noqa: PLR1714 - mypy does not narrow by a tuple
            else self.ops.pool(x, flat, mode)
            for mode in poolings
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def build_encoder(
    model: Model,
    weights: Weights,
    *,
    ops: Ops,
    device: torch.device,
    precision: str,
    keep_16bit: Iterable[str] = (),
    tanh_gelu: bool = False,
) -> Encoder:
    """The model's encoder on `device`. Raises as `build_network`, and ModelError for a bad head."""
    network = build_network(
        model.architecture,
        weights,
        device=device,
        precision=precision,
        max_text_tokens=model.max_text_tokens,
        keep_16bit=keep_16bit,
        tanh_gelu=tanh_gelu,
    )
    layers = head_layers(model.head, device)
    return Encoder(network=network, ops=ops, head=model.head, head_layers=layers)


def _token_index(flat: Flat, mode: str) -> Tensor:
    """Index of each text's first or last pooled token; an arbitrary valid index for empty texts."""
    index = flat.pooled_from if mode == "cls" else flat.offsets[1:] - 1
    return index.clamp(0, len(flat.ids) - 1)
