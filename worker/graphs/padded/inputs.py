"""Pads texts of a batch to a bucket: builds the inputs of worker/graphs/padded/graph.py."""

import numpy as np
import numpy.typing as npt

from worker.contract import Tokens
from worker.graphs.positions import token_positions

Int32 = npt.NDArray[np.int32]


def input_dims(*, pools_prompts: bool) -> dict[str, int]:
    """The number of dimensions of each of the graph's inputs, all of them int32."""
    dims = {"ids": 2, "positions": 2, "lengths": 1}
    return dims if pools_prompts else dims | {"num_unpooled": 1}


def padded_inputs(
    tokens: Tokens,
    texts: npt.NDArray[np.intp],
    position_offset: int,
    *,
    num_texts: int,
    num_tokens: int,
    pools_prompts: bool = True,
) -> dict[str, Int32]:
    """`ids` and `positions` int32 (num_texts, num_tokens) and `lengths` int32 (num_texts,).

    Of models that leave prompts out of pooling, `num_unpooled` int32 (num_texts,) too. Slots without a token
    contain zeros, which are valid in every table. Rows without a text have length 1: no row may be empty.
    """
    shape = (num_texts, num_tokens)
    lengths = np.ones(num_texts, dtype=np.int32)
    lengths[: len(texts)] = tokens.lengths[texts]
    inside = np.zeros(shape, dtype=np.bool_)
    inside[: len(texts)] = np.arange(num_tokens) < lengths[: len(texts), None]
    source = (tokens.offsets[:-1][texts, None] + np.arange(num_tokens))[inside[: len(texts)]]
    ids, positions = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
    ids[inside] = tokens.ids[source]
    positions[inside] = token_positions(tokens, position_offset)[source]
    inputs = {"ids": ids, "positions": positions, "lengths": lengths}
    if not pools_prompts:
        inputs["num_unpooled"] = np.zeros(num_texts, dtype=np.int32)
        inputs["num_unpooled"][: len(texts)] = (tokens.firsts - tokens.offsets[:-1])[texts]
    return inputs
