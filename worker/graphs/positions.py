"""Computes each token's row in the position table."""

import numpy as np
import numpy.typing as npt

from worker.contract import Tokens


def token_positions(tokens: Tokens, position_offset: int) -> npt.NDArray[np.int32]:
    """int32 (T,), counting up from `position_offset` within each text.

    If the table has a row for padding (the one before the offset), a padding token that occurs in a text gets
    that row and is not counted, as in transformers; the id decides, not an attention mask. The PyTorch
    encoder has the same rule on its device (`_position_rows`, `number_tokens`).
    """
    padding = position_offset - 1
    counted = (tokens.ids != padding).astype(np.int32)
    running = np.cumsum(counted, dtype=np.int32)
    before = np.concatenate(([0], running))[tokens.offsets[:-1]].astype(np.int32)
    rows: npt.NDArray[np.int32] = (running - np.repeat(before, tokens.lengths)) * counted + np.int32(padding)
    return rows
