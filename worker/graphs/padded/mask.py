"""The mask of a padded batch: which slots contain a token."""

import numpy as np

from worker.graphs.builder import Nodes


class Mask:
    """Values derived from the graph's inputs `ids`, `lengths` and `num_unpooled`, each written once.

    `slots` int32 (S,), counting from 0; `lengths` int32 (B, 1); `inside` bool (B, S). Of the tokens that are
    pooled, which are all if the model `pools_prompts`: `first` int32 (B, 1), empty if it is always the first;
    `num_pooled` int32 (B, 1); `pooled` bool (B, S).
    """

    def __init__(self, nodes: Nodes, *, pools_prompts: bool = True) -> None:
        size = nodes.op("Gather", nodes.op("Shape", "ids"), nodes.constant(1, np.int64))
        start, step = nodes.constant(0, np.int32), nodes.constant(1, np.int32)
        self.slots = nodes.op("Range", start, nodes.op("Cast", size, to=6), step)
        self.lengths = nodes.op("Unsqueeze", "lengths", nodes.constant([1], np.int64))
        self.inside = nodes.op("Less", self.slots, self.lengths)
        self.first, self.num_pooled, self.pooled = "", self.lengths, self.inside
        if not pools_prompts:
            self.first = nodes.op("Unsqueeze", "num_unpooled", nodes.constant([1], np.int64))
            self.num_pooled = nodes.op("Sub", self.lengths, self.first)
            behind = nodes.op("GreaterOrEqual", self.slots, self.first)
            self.pooled = nodes.op("And", self.inside, behind)
