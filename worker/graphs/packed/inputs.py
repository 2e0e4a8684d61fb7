"""Splits a batch into micro-batches, and builds the inputs of worker/graphs/packed/graph.py for each."""

import numpy as np
import numpy.typing as npt

from worker.contract import Tokens
from worker.graphs.flat.inputs import Inputs, pooled_inputs, take_texts
from worker.graphs.positions import token_positions


def packed_micro_batches(lengths: npt.NDArray[np.int32], max_slots: int) -> list[npt.NDArray[np.intp]]:
    """Indices of the texts of each micro-batch, longest texts first.

    Its longest text times its number of texts is at most `max_slots`, unless a single text is longer.
    """
    order = np.argsort(-lengths, kind="stable")
    cuts, start = [], 0
    while start < len(order):
        start += max(1, max_slots // int(lengths[order[start]]))
        cuts.append(start)
    return np.split(order, cuts[:-1])


def packed_inputs(
    tokens: Tokens, texts: npt.NDArray[np.intp], position_offset: int, *, pools_prompts: bool = True
) -> Inputs:
    """The graph's inputs for the given texts of a batch."""
    part = take_texts(tokens, texts)
    lengths = part.lengths
    slot = np.arange(lengths.max(), dtype=np.int32)
    used = slot < lengths[:, None]
    # Used slots first, then empty ones, each in row order.
    order = np.concatenate((np.flatnonzero(used), np.flatnonzero(~used))).astype(np.int32)
    return {
        "ids": part.ids,
        "positions": token_positions(part, position_offset),
        "slots": part.offsets[:-1, None] + np.minimum(slot, lengths[:, None] - 1),
        "lengths": lengths,
        "token_offset": order.reshape(used.shape),
        "cumulative": part.offsets,
        **({} if pools_prompts else pooled_inputs(part, len(slot))),
    }
