"""Splits a batch into micro-batches, and builds the inputs of worker/graphs/flat/graph.py for each."""

from typing import Any

import numpy as np
import numpy.typing as npt

from worker.contract import Tokens
from worker.graphs.positions import token_positions

Inputs = dict[str, npt.NDArray[Any]]
_SLOT_STEP = 16
_MAX_SHARED_SLOTS = 256


def num_slots(lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """The number of slots of each text in attention, int32 (n,); it depends on the text's length alone.

    The order of attention's sums depends on the number of slots. If it depended on the longest
    text of a micro-batch, a text's vector would depend on its batch-mates, and int8 would amplify the
    difference.
    """
    rounded = -(-lengths // _SLOT_STEP) * _SLOT_STEP
    return np.where(lengths <= _MAX_SHARED_SLOTS, rounded, lengths).astype(np.int32)


def flat_micro_batches(lengths: npt.NDArray[np.int32], max_slots: int) -> list[npt.NDArray[np.intp]]:
    """Indices of the texts of each micro-batch, longest texts first.

    All texts of a micro-batch have the same number of slots, and together at most `max_slots`; a text with
    more than 256 slots is a micro-batch by itself.
    """
    slots = num_slots(lengths)
    order = np.argsort(-slots, kind="stable")
    cuts, start = [], 0
    while start < len(order):
        size = int(slots[order[start]])
        equal = int(np.count_nonzero(slots == size))
        count = max(1, max_slots // size) if size <= _MAX_SHARED_SLOTS else 1
        end = start + equal
        cuts += [*range(start + count, end, count), end]
        start = end
    return np.split(order, cuts[:-1])


def graph_inputs(
    tokens: Tokens, texts: npt.NDArray[np.intp], position_offset: int, *, pools_prompts: bool = True
) -> Inputs:
    """The graph's inputs for the given texts of a batch."""
    part = take_texts(tokens, texts)
    lengths = part.lengths
    size = int(num_slots(lengths).max())
    row_starts = np.arange(len(part), dtype=np.int32) * size
    # A token's distance from the start of its row equals its distance from the start of its text.
    places = np.arange(len(part.ids), dtype=np.int32) + np.repeat(row_starts - part.offsets[:-1], lengths)
    return {
        "ids": part.ids,
        "positions": token_positions(part, position_offset),
        "slots": _slots(part.offsets[:-1], lengths, size),
        "places": places,
        "lengths": lengths,
        "ragged": np.array(size <= _MAX_SHARED_SLOTS),
        **({} if pools_prompts else pooled_inputs(part, size)),
    }


def pooled_inputs(tokens: Tokens, num_slots: int) -> Inputs:
    """The inputs for the pooled tokens of each text, of models that leave prompts out of pooling."""
    lengths = tokens.offsets[1:] - tokens.firsts
    return {"pooled_slots": _slots(tokens.firsts, lengths, num_slots), "pooled_lengths": lengths}


def _slots(
    firsts: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32], num_slots: int
) -> npt.NDArray[np.int32]:
    """The index of each slot's token; after the last token of a row, that one again."""
    slot = np.arange(num_slots, dtype=np.int32)
    slots: npt.NDArray[np.int32] = firsts[:, None] + np.minimum(slot, lengths[:, None] - 1)
    return slots


def take_texts(tokens: Tokens, texts: npt.NDArray[np.intp]) -> Tokens:
    """The given texts of a batch as a batch."""
    lengths = tokens.lengths[texts]
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    shift = np.repeat(tokens.offsets[texts] - offsets[:-1], lengths)
    num_unpooled = None if tokens.num_unpooled is None else tokens.num_unpooled[texts]
    return Tokens(tokens.ids[np.arange(offsets[-1]) + shift], offsets, num_unpooled)
