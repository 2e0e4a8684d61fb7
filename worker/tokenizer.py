"""Texts to flat token ids, exactly as the model's own tokenizer gives them; nothing is padded."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding
from tokenizers import Tokenizer as Library
from tokenizers.normalizers import Lowercase, Sequence

from producer.contract import Truncate
from producer.errors import ModelError
from worker.backends.contract import Tokens


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Encoded:
    """Tokens of the texts that fit or were cut to fit, and what happened to the others.

    `tokens` holds the texts at the positions `kept`, intp (k,); `truncated` are the positions that were
    cut, ascending; `too_long` maps the position of a text refused under Truncate.NONE to its length.
    """

    tokens: Tokens
    kept: npt.NDArray[np.intp]
    truncated: npt.NDArray[np.int32]
    too_long: dict[int, int]


class Tokenizer:
    """The tokenizer of a model directory's tokenizer.json.

    Truncation and padding baked into the file are reset: some files cut at 128 and pad to 128. Texts of at
    most `max_tokens` tokens, special tokens included, pass whole. With `lower_case` texts are lowered first,
    whatever the file does (sentence-transformers' `do_lower_case`). Safe to call from many threads.
    """

    def __init__(self, directory: Path, *, max_tokens: int, lower_case: bool = False) -> None:
        path = directory / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{directory} has no tokenizer.json; save the model with a fast tokenizer")
        try:
            self._library = Library.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for whatever it cannot read
            raise ModelError(f"{path} is no tokenizer this version can read: {error}") from error
        self._library.no_truncation()
        self._library.no_padding()
        if lower_case:
            kept = [self._library.normalizer] if self._library.normalizer is not None else []
            self._library.normalizer = Sequence([Lowercase(), *kept])
        self.max_tokens = max_tokens
        special = self._library.num_special_tokens_to_add(is_pair=False)
        if special >= max_tokens:
            raise ModelError(f"{path} adds {special} special tokens, the model takes {max_tokens} in all")

    def encode(self, texts: SequenceOf[str], truncate: Truncate) -> Encoded:
        """Tokens of all texts; those longer than `max_tokens` are cut at START or END, or refused."""
        encodings = self._library.encode_batch_fast(list(texts))
        rows: list[list[int]] = []
        kept: list[int] = []
        truncated: list[int] = []
        too_long: dict[int, int] = {}
        for position, encoding in enumerate(encodings):
            ids = encoding.ids
            if len(ids) > self.max_tokens:
                if truncate is Truncate.NONE:
                    too_long[position] = len(ids)
                    continue
                truncated.append(position)
                ids = _cut(encoding, self.max_tokens, keep_end=truncate is Truncate.START)
            rows.append(ids)
            kept.append(position)
        return Encoded(
            tokens=_flatten(rows),
            kept=np.array(kept, dtype=np.intp),
            truncated=np.array(truncated, dtype=np.int32),
            too_long=too_long,
        )


def _cut(encoding: Encoding, max_tokens: int, *, keep_end: bool) -> list[int]:
    """The special tokens around, and as much of the text between them as fits."""
    special = np.asarray(encoding.special_tokens_mask, dtype=bool)
    text = np.flatnonzero(~special)
    num_before, num_after = int(text[0]), len(special) - 1 - int(text[-1])
    room = max_tokens - num_before - num_after
    ids: list[int] = encoding.ids
    inner = ids[num_before : len(ids) - num_after]
    inner = inner[len(inner) - room :] if keep_end else inner[:room]
    return ids[:num_before] + inner + ids[len(ids) - num_after :]


def _flatten(rows: list[list[int]]) -> Tokens:
    offsets = np.zeros(len(rows) + 1, dtype=np.int32)
    np.cumsum([len(row) for row in rows], out=offsets[1:])
    ids = np.empty(int(offsets[-1]), dtype=np.int32)
    for row, start, end in zip(rows, offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        ids[start:end] = row
    return Tokens(ids, offsets)
