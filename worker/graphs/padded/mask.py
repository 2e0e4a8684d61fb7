"""The mask of a padded batch: which slots contain a token."""

import numpy as np

from worker.graphs.builder import Nodes


class Mask:
    """Values derived from the graph's inputs `ids` and `lengths`, each written once.

    `slots` int32 (S,), counting from 0; `lengths` int32 (B, 1); `inside` bool (B, S).
    """

    def __init__(self, nodes: Nodes) -> None:
        size = nodes.op("Gather", nodes.op("Shape", "ids"), nodes.constant(1, np.int64))
        start, step = nodes.constant(0, np.int32), nodes.constant(1, np.int32)
        self.slots = nodes.op("Range", start, nodes.op("Cast", size, to=6), step)
        self.lengths = nodes.op("Unsqueeze", "lengths", nodes.constant([1], np.int64))
        self.inside = nodes.op("Less", self.slots, self.lengths)
