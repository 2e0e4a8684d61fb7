"""Builds the padded inputs of a custom graph, and those of the head that follows it."""

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from worker.contract import Indices, Tokens
from worker.graphs.flat.inputs import Inputs, flat_micro_batches
from worker.graphs.positions import token_positions
from worker.models.onnx.graph_file import GraphFile
from worker.models.onnx.graph_roles import GraphInput


def custom_micro_batches(
    lengths: npt.NDArray[np.int32], graph: GraphFile, *, max_slots: int
) -> list[Indices]:
    """Indices of the texts of each micro-batch, all of the same length if the graph takes no mask."""
    costs = lengths if graph.num_tokens is None else np.full_like(lengths, graph.num_tokens)
    parts = flat_micro_batches(costs, max_slots)
    if not graph.masked:
        parts = [part[start:end] for part in parts for start, end in _runs(lengths[part])]
    if graph.num_texts is None:
        return parts
    size = graph.num_texts
    return [part[start : start + size] for part in parts for start in range(0, len(part), size)]


def custom_padded_inputs(
    tokens: Tokens, texts: Indices, graph: GraphFile, *, position_offset: int, padding_id: int
) -> Inputs:
    """The graph's inputs by name, each (B, S) in the dtype that it declares.

    B is the number of texts and S the length of the longest, unless the graph has fixed dimensions; surplus
    rows repeat the first text.
    """
    num_texts = graph.num_texts or len(texts)
    rows = np.concatenate((texts, np.repeat(texts[:1], num_texts - len(texts))))
    lengths = tokens.lengths[rows]
    slot = np.arange(graph.num_tokens or int(lengths.max()), dtype=np.int32)
    inside = slot < lengths[:, None]
    places = tokens.offsets[rows][:, None] + np.minimum(slot, lengths[:, None] - 1)
    ids = np.where(inside, tokens.ids[places], np.int32(padding_id))
    values = {"ids": ids, "mask": inside, "types": np.zeros_like(ids)}
    if any(each.role == "positions" for each in graph.inputs):
        values["positions"] = token_positions(tokens, position_offset)[places]
    return {
        each.name: _empty_cache(each, num_texts)
        if each.role == "cache"
        else _as_declared(values[each.role], each)
        for each in graph.inputs
    }


def slot_inputs(tokens: Tokens, texts: Indices, shape: list[int], *, pools_prompts: bool) -> Inputs:
    """The inputs of `custom_head` for states of `shape` (B, S, hidden), beside these."""
    num_texts, num_slots = shape[0], shape[1]
    ends, starts = np.ones(num_texts, dtype=np.int32), np.zeros(num_texts, dtype=np.int32)
    ends[: len(texts)] = tokens.lengths[texts]
    starts[: len(texts)] = (tokens.firsts - tokens.offsets[:-1])[texts]
    slot = starts[:, None] + np.arange(num_slots, dtype=np.int32)
    row = np.arange(num_texts, dtype=np.int32)[:, None] * np.int32(num_slots)
    slots = row + np.minimum(slot, ends[:, None] - 1)
    if pools_prompts:
        return {"slots": slots, "lengths": ends}
    return {"pooled_slots": slots, "pooled_lengths": ends - starts, "lengths": ends}


def _empty_cache(declared: GraphInput, num_texts: int) -> npt.NDArray[Any]:
    """Keys or values (B, heads, 0, head_dim) of no earlier tokens."""
    _, heads, _, head_dim = declared.shape
    return np.zeros((num_texts, heads or 0, 0, head_dim or 0), dtype=declared.dtype)


def _as_declared(value: npt.NDArray[Any], declared: GraphInput) -> npt.NDArray[Any]:
    return np.ascontiguousarray(value.astype(declared.dtype))


def _runs(lengths: npt.NDArray[np.int32]) -> list[tuple[int, int]]:
    """Start and end of each run of equal lengths."""
    edges = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    return list(pairwise(edges))
