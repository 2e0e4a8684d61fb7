"""Turns a batch into the padded inputs of a custom graph, and of the head appended to it."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.contract import Indices, Tokens
from worker.graphs.flat.inputs import Inputs, flat_portions
from worker.models.onnx.graph_file import GraphFile
from worker.models.onnx.graph_roles import GraphInput


def cut_batches(lengths: npt.NDArray[np.int32], graph: GraphFile, *, max_slots: int) -> list[Indices]:
    """Indices of the texts of each portion, all of one length if the graph has no mask."""
    costs = lengths if graph.num_tokens is None else np.full_like(lengths, graph.num_tokens)
    parts = flat_portions(costs, max_slots)
    if not graph.masked:
        parts = [part[start:end] for part in parts for start, end in _runs(lengths[part])]
    if graph.num_texts is None:
        return parts
    size = graph.num_texts
    return [part[start : start + size] for part in parts for start in range(0, len(part), size)]


def custom_padded_inputs(
    tokens: Tokens, texts: Indices, graph: GraphFile, *, position_offset: int, padding_id: int
) -> Inputs:
    """The graph's inputs by name, each (B, S) in the dtype it asks for.

    B is the number of texts and S the longest, unless the graph has fixed dimensions; surplus rows repeat the
    first text.
    """
    num_texts = graph.num_texts or len(texts)
    rows = np.concatenate((texts, np.repeat(texts[:1], num_texts - len(texts))))
    lengths = tokens.lengths[rows]
    slot = np.arange(graph.num_tokens or int(lengths.max()), dtype=np.int32)
    inside = slot < lengths[:, None]
    places = tokens.offsets[rows][:, None] + np.minimum(slot, lengths[:, None] - 1)
    ids = np.where(inside, tokens.ids[places], np.int32(padding_id))
    positions = np.broadcast_to(slot + np.int32(position_offset), ids.shape)
    values = {"ids": ids, "mask": inside, "types": np.zeros_like(ids), "positions": positions}
    return {each.name: _as(values[each.role], each) for each in graph.inputs}


def slot_inputs(lengths: npt.NDArray[np.int32], shape: list[int]) -> Inputs:
    """`slots` and `lengths` of `custom_head` for states of `shape` (B, S, hidden)."""
    num_texts, num_slots = shape[0], shape[1]
    full = np.ones(num_texts, dtype=np.int32)
    full[: len(lengths)] = lengths
    slot = np.arange(num_slots, dtype=np.int32)
    first = np.arange(num_texts, dtype=np.int32)[:, None] * np.int32(num_slots)
    return {"slots": first + np.minimum(slot, full[:, None] - 1), "lengths": full}


def _as(value: npt.NDArray[Any], wanted: GraphInput) -> npt.NDArray[Any]:
    return np.ascontiguousarray(value.astype(wanted.dtype))


def _runs(lengths: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Start and end of each run of equal lengths."""
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    return list(pairwise(edges))
