"""A batch cut into portions, each as the inputs of the graph in worker/build/onnx_graph.py."""

from typing import Any

import numpy as np
import numpy.typing as npt

from worker.backends.contract import Tokens
from worker.backends.positions import token_positions

Inputs = dict[str, npt.NDArray[Any]]


def portions(lengths: npt.NDArray[np.int32], max_slots: int) -> list[npt.NDArray[np.intp]]:
    """Indices of the texts of each portion, longest texts first.

    A portion's longest text x its number of texts stays within `max_slots`, unless one text alone is longer.
    """
    order = np.argsort(-lengths, kind="stable")
    cuts, start = [], 0
    while start < len(order):
        start += max(1, max_slots // int(lengths[order[start]]))
        cuts.append(start)
    return np.split(order, cuts[:-1])


def graph_inputs(tokens: Tokens, texts: npt.NDArray[np.intp], position_offset: int) -> Inputs:
    """The graph's inputs for some texts of a batch."""
    part = _take(tokens, texts)
    lengths = part.lengths
    num_slots = int(lengths.max())
    slot = np.arange(num_slots, dtype=np.int32)
    slots = part.offsets[:-1, None] + np.minimum(slot, lengths[:, None] - 1)
    row_starts = np.arange(len(part), dtype=np.int32) * np.int32(num_slots)
    # Token t stands as far behind its row's start as behind its text's.
    places = np.arange(len(part.ids), dtype=np.int32) + np.repeat(row_starts - part.offsets[:-1], lengths)
    return {
        "ids": part.ids,
        "positions": token_positions(part, position_offset),
        "slots": slots,
        "places": places,
        "lengths": lengths,
        "ragged": np.array(lengths.min() != num_slots),
    }


def _take(tokens: Tokens, texts: npt.NDArray[np.intp]) -> Tokens:
    lengths = tokens.lengths[texts]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    shift = np.repeat(tokens.offsets[texts] - offsets[:-1], lengths)
    return Tokens(tokens.ids[np.arange(offsets[-1]) + shift], offsets)
