"""Tokenizes texts exactly as the model's own tokenizer does, into flat ids without padding."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from tokenizers import Tokenizer as Library
from tokenizers.normalizers import Lowercase, Sequence

from producer.contract import Truncate
from producer.errors import ModelError
from worker.contract import Tokens
from worker.tokenization.engines import (
    Engine,
    FallbackEngine,
    UnsupportedTokenizer,
    reference_engine,
    wordpiece_engine,
)
from worker.tokenization.parity import first_difference
from worker.tokenization.pretruncation import CHARACTERS_PER_TOKEN, is_separable, part_of

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Encoded:
    """Tokens of the texts that fit or were truncated, and the lengths of those that were refused.

    `tokens` holds the texts at the positions `kept`, intp (k,). `truncated` int32 are the positions of
    truncated texts, ascending; `too_long` maps the position of a text refused under Truncate.NONE to its
    number of tokens.
    """

    tokens: Tokens
    kept: npt.NDArray[np.intp]
    truncated: npt.NDArray[np.int32]
    too_long: dict[int, int]


class Tokenizer:
    """Tokenizes as a model directory's tokenizer.json specifies. Thread-safe.

    Truncation and padding set in the file are ignored: some files truncate at 128 and pad to 128. Texts of
    up to `max_tokens` tokens, special tokens included, are never truncated. With `lower_case`, texts are
    lowercased first, whatever the file says (sentence-transformers' `do_lower_case`). A `bare` tokenizer adds
    no special tokens, whatever the file says (its StaticEmbedding). A fast engine is used if it gives the
    same ids as the reference library; the log says which one it is. Raises ModelError.
    """

    def __init__(
        self, directory: Path, *, max_tokens: int, lower_case: bool = False, bare: bool = False
    ) -> None:
        path = directory / "tokenizer.json"
        library = _read(path)
        if bare:
            library.post_processor = None  # it only adds them
        if lower_case:
            kept = [library.normalizer] if library.normalizer is not None else []
            library.normalizer = Sequence([Lowercase(), *kept])
        self.max_tokens = max_tokens
        special = library.num_special_tokens_to_add(is_pair=False)
        if special >= max_tokens:
            raise ModelError(
                f"{path} adds {special} special tokens, but the model takes {max_tokens} tokens in all; "
                "use the tokenizer.json that belongs to the model"
            )
        self._num_before = _num_before(library)
        self._num_after = special - self._num_before
        self._encode = _engine(library)
        self._separable = is_separable(library.to_str())

    def encode(self, texts: SequenceOf[str], truncate: Truncate) -> Encoded:
        """Tokenize all texts; those longer than `max_tokens` are truncated at START or END, or refused."""
        tokens = self._untruncated(list(texts), truncate)
        lengths = tokens.lengths
        kept = np.arange(len(tokens))
        long = np.flatnonzero(lengths > self.max_tokens)
        if len(long) == 0:
            return Encoded(tokens=tokens, kept=kept, truncated=np.empty(0, dtype=np.int32), too_long={})
        starts, ends = tokens.offsets[long], tokens.offsets[long + 1]
        if truncate is Truncate.NONE:
            return Encoded(
                tokens=Tokens(_without(tokens.ids, starts, ends), _offsets(np.delete(lengths, long))),
                kept=np.delete(kept, long),
                truncated=np.empty(0, dtype=np.int32),
                too_long=dict(zip(long.tolist(), lengths[long].tolist(), strict=True)),
            )
        surplus = lengths[long] - self.max_tokens
        if truncate is Truncate.START:
            starts = starts + self._num_before
            ends = starts + surplus
        else:
            ends = ends - self._num_after
            starts = ends - surplus
        cut = np.minimum(lengths, self.max_tokens)
        return Encoded(
            tokens=Tokens(_without(tokens.ids, starts, ends), _offsets(cut)),
            kept=kept,
            truncated=long.astype(np.int32),
            too_long={},
        )

    def _untruncated(self, texts: list[str], truncate: Truncate) -> Tokens:
        """Tokenize without truncation; of a very long text, only a part that is itself too long."""
        max_chars = CHARACTERS_PER_TOKEN * self.max_tokens
        any_long = max(map(len, texts), default=0) > max_chars
        if not any_long or not self._separable or truncate is Truncate.NONE:  # NONE reports the full length
            return self._encode(texts)
        long = [at for at, text in enumerate(texts) if len(text) > max_chars]
        parts = texts.copy()
        for at in long:
            parts[at] = part_of(texts[at], max_chars, keep_end=truncate is Truncate.START)
        tokens = self._encode(parts)
        too_short = [at for at in long if tokens.lengths[at] <= self.max_tokens]
        if all(parts[at] == texts[at] for at in too_short):
            return tokens
        for at in too_short:
            parts[at] = texts[at]
        return self._encode(parts)


def _read(path: Path) -> Library:
    if not path.is_file():
        raise ModelError(f"{path.parent} has no tokenizer.json; save the model with a fast tokenizer")
    try:
        library = Library.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for all it cannot read
        raise ModelError(
            f"{path} cannot be read: {error}; install the newest `tokenizers`, or save the model again"
        ) from error
    library.no_truncation()
    library.no_padding()
    return library


def _engine(library: Library) -> Engine:
    """The fast engine if it agrees with the reference, otherwise the reference."""
    reference = reference_engine(library)
    try:
        fast = wordpiece_engine(library.to_str())
    except UnsupportedTokenizer as reason:
        log.info("tokenizer", engine="tokenizers", reason=str(reason))
        return reference
    special = [token.content for token in library.get_added_tokens_decoder().values()]
    difference = first_difference(fast, reference, special=special, vocabulary=list(library.get_vocab()))
    if difference is not None:
        log.warning(
            "tokenizer", engine="tokenizers", reason=f"nanotoken gives different ids for {difference}"
        )
        return reference
    log.info("tokenizer", engine="nanotoken")
    return FallbackEngine(fast, reference)


def _num_before(library: Library) -> int:
    """The number of special tokens before a text; the same for every text."""
    mask = library.encode("a").special_tokens_mask
    return mask.index(0) if 0 in mask else 0


def _without(
    ids: npt.NDArray[np.int32], starts: npt.NDArray[np.int32], ends: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """The ids outside the spans, which are non-empty and do not overlap."""
    edges = np.zeros(len(ids) + 1, dtype=np.int8)
    edges[starts] += 1
    edges[ends] -= 1
    kept: npt.NDArray[np.int32] = ids[np.cumsum(edges[:-1], dtype=np.int8) == 0]
    return kept


def _offsets(lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    return offsets
