"""Tokenizes texts exactly as the model's own tokenizer does, into flat ids without padding."""

from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
from tokenizers import Tokenizer as Library

from producer.contract import Truncate
from producer.errors import ModelError
from worker.contract import Tokens
from worker.reference_texts import golden_texts
from worker.tokenization.engines import (
    Engine,
    FallbackEngine,
    UnsupportedTokenizer,
    reference_engine,
    wordpiece_engine,
)
from worker.tokenization.library import load_library
from worker.tokenization.parity import first_difference
from worker.tokenization.pretruncation import CHARACTERS_PER_TOKEN, is_separable, part_of
from worker.tokenization.stated import NOTHING_STATED, StatedTokenizer, read_stated

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Encoded:
    """Tokens of the texts that can be embedded, and why the others cannot.

    `tokens` holds the texts at the positions `kept`, intp (k,). `truncated` int32 are the positions of
    truncated texts, ascending. Of the refused texts, by position: `too_long` has the number of tokens of
    those refused under Truncate.NONE, `no_row` the first token of a text that the network's table has no row
    for, and `empty` are texts without any token to pool.
    """

    tokens: Tokens
    kept: npt.NDArray[np.intp]
    truncated: npt.NDArray[np.int32]
    too_long: dict[int, int]
    no_row: dict[int, str] = field(default_factory=dict)
    empty: frozenset[int] = frozenset()


class Tokenizer:
    """Tokenizes as a model directory's files specify, and transformers reads them. Thread-safe.

    Truncation and padding set in the files are ignored: some truncate at 128 and pad to 128. Texts of up to
    `max_tokens` tokens, special tokens included, are never truncated. With `lower_case`, texts are lowercased
    first, whatever the files say (sentence-transformers' `do_lower_case`). Without `special_tokens` none are
    added, and tokenizer.json is used as it is (its StaticEmbedding). `vocab_size` is the number of rows
    of the network's table. A missing tokenizer.json is made, and kept below `cache`. Unless the model
    `pools_prompts`, tokens of a prompt are attended to but left out of its vectors. A fast engine is used if
    it gives the same ids as the reference library; the log says which one it is.

    `truncate` is the side at which sentence-transformers truncates this model's texts, `own_special_tokens`
    are special tokens as they are written, those with a role first. Raises ModelError.
    """

    def __init__(
        self,
        directory: Path,
        *,
        max_tokens: int,
        lower_case: bool = False,
        special_tokens: bool = True,
        vocab_size: int | None = None,
        cache: Path | None = None,
        pools_prompts: bool = True,
    ) -> None:
        stated = read_stated(directory) if special_tokens else NOTHING_STATED
        self._stated = stated
        self._load = partial(
            load_library, directory, lower_case=lower_case, special_tokens=special_tokens, cache=cache
        )
        library = self._load(stated)
        self.max_tokens = max_tokens
        self.pools_prompts = pools_prompts
        self.truncate = _own_side(library, stated)
        self.own_special_tokens = _special_tokens(library, stated)
        self.made_with = stated.made_with
        self.adds_special_tokens = special_tokens
        library.no_truncation()
        special = library.num_special_tokens_to_add(is_pair=False)
        if special >= max_tokens:
            raise ModelError(
                f"{directory / 'tokenizer.json'} adds {special} special tokens, but the model takes "
                f"{max_tokens} tokens in all; use the tokenizer.json that belongs to the model"
            )
        self._library = library
        self._rows = vocab_size if vocab_size is not None else 2**31
        self._num_before = _num_before(library)
        self._num_after = special - self._num_before
        added = library.get_added_tokens_decoder()
        self._special_ids = frozenset(number for number, token in added.items() if token.special)
        self._encode = _engine(library)
        self._separable = is_separable(library.to_str())

    def ids(self, texts: SequenceOf[str]) -> Tokens:
        """The ids of each text, of any number and value."""
        return self._encode(list(texts))

    @property
    def follows_own_code(self) -> bool:
        """Whether the ids are those that the model's own code, which is not run, would give."""
        return self._stated.template is not None

    def ids_of(self, texts: SequenceOf[str], *, major: int, plain: bool = False) -> Tokens:
        """As `ids`, by the rules of transformers `major`; with `plain` those of a class without any rules."""
        library = self._load(self._stated.plain if plain else self._stated, major=major)
        library.no_truncation()
        return reference_engine(library)(list(texts))

    def vocabulary(self) -> list[str]:
        """All tokens, in the order of their ids."""
        found: dict[str, int] = self._library.get_vocab()
        return sorted(found, key=found.__getitem__)

    def golden_texts(self) -> tuple[str, ...]:
        """The golden texts, with this tokenizer's own special tokens, less those that it has to refuse."""
        texts = golden_texts(self.max_tokens, self.own_special_tokens)
        return tuple(texts[at] for at in self.encode(texts, self.truncate).kept.tolist())

    def num_unpooled(self, prompt: str) -> int:
        """How many tokens at the start of a text that begins with the prompt the model leaves out of pooling.

        As sentence-transformers counts: those of the prompt alone, with the special tokens before it, and
        without one at its end.
        """
        if self.pools_prompts or not prompt:
            return 0
        ids = self._fitted([prompt], Truncate.END, 0).tokens.ids
        return len(ids) - int(len(ids) > 0 and int(ids[-1]) in self._special_ids)

    def encode(self, texts: SequenceOf[str], truncate: Truncate, *, num_unpooled: int = 0) -> Encoded:
        """Tokenize all texts; those longer than `max_tokens` are truncated at START or END, or refused.

        Of each text, `num_unpooled` tokens at the start are not pooled, fewer if some of them are truncated.
        A text that has no others is refused.
        """
        fitted = self._fitted(texts, truncate, num_unpooled)
        tokens = fitted.tokens
        if len(tokens) == 0 or (_num_pooled(tokens).min() > 0 and tokens.ids.max() < self._rows):
            return fitted
        return self._without_bad(fitted)

    def _fitted(self, texts: SequenceOf[str], truncate: Truncate, num_unpooled: int) -> Encoded:
        """All texts but those that are too long."""
        tokens = self._untruncated(list(texts), truncate)
        lengths = tokens.lengths
        kept = np.arange(len(tokens))
        long = np.flatnonzero(lengths > self.max_tokens)
        unpooled = np.full(len(tokens), num_unpooled, dtype=np.int32) if num_unpooled else None
        if len(long) == 0:
            tokens = tokens if unpooled is None else replace(tokens, num_unpooled=unpooled)
            return Encoded(tokens=tokens, kept=kept, truncated=np.empty(0, dtype=np.int32), too_long={})
        starts, ends = tokens.offsets[long], tokens.offsets[long + 1]
        if truncate is Truncate.NONE:
            return Encoded(
                tokens=Tokens(
                    _without(tokens.ids, starts, ends),
                    _offsets(np.delete(lengths, long)),
                    None if unpooled is None else np.delete(unpooled, long),
                ),
                kept=np.delete(kept, long),
                truncated=np.empty(0, dtype=np.int32),
                too_long=dict(zip(long.tolist(), lengths[long].tolist(), strict=True)),
            )
        surplus = lengths[long] - self.max_tokens
        if truncate is Truncate.START:
            starts = starts + self._num_before
            ends = starts + surplus
            if unpooled is not None:
                unpooled[long] = np.maximum(num_unpooled - surplus, self._num_before)
        else:
            ends = ends - self._num_after
            starts = ends - surplus
        cut = np.minimum(lengths, self.max_tokens)
        return Encoded(
            tokens=Tokens(_without(tokens.ids, starts, ends), _offsets(cut), unpooled),
            kept=kept,
            truncated=long.astype(np.int32),
            too_long={},
        )

    def _without_bad(self, fitted: Encoded) -> Encoded:
        """Refuse texts without a token to pool, and those with a token for which there is no row."""
        tokens, kept = fitted.tokens, fitted.kept
        unpooled = tokens.num_unpooled
        empty = np.flatnonzero(_num_pooled(tokens) <= 0)
        beyond = np.flatnonzero(tokens.ids >= self._rows)
        # The text of a token is the last that begins at or before it.
        owners, first = np.unique(
            np.searchsorted(tokens.offsets, beyond, side="right") - 1, return_index=True
        )
        bad = np.union1d(empty, owners)
        gone = bad[tokens.lengths[bad] > 0]
        return Encoded(
            tokens=Tokens(
                _without(tokens.ids, tokens.offsets[gone], tokens.offsets[gone + 1]),
                _offsets(np.delete(tokens.lengths, bad)),
                None if unpooled is None else np.delete(unpooled, bad),
            ),
            kept=np.delete(kept, bad),
            truncated=np.setdiff1d(fitted.truncated, kept[bad]).astype(np.int32),
            too_long=fitted.too_long,
            no_row={
                int(kept[owner]): str(self._library.id_to_token(int(tokens.ids[at])))
                for owner, at in zip(owners.tolist(), beyond[first].tolist(), strict=True)
            },
            empty=frozenset(kept[empty].tolist()),
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


def _own_side(library: Library, stated: StatedTokenizer) -> Truncate:
    """The side that the settings name, else that of the truncation in tokenizer.json, else the end."""
    in_file = (library.truncation or {}).get("direction", "right")
    side = stated.settings.get("truncation_side", in_file)
    return Truncate.START if side == "left" else Truncate.END


def _special_tokens(library: Library, stated: StatedTokenizer) -> tuple[str, ...]:
    special = [token.content for token in library.get_added_tokens_decoder().values() if token.special]
    roles = [token.content for token in stated.roles(stated.made_with).values() if token.content in special]
    return tuple(dict.fromkeys([*roles, *special]))


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


def _num_pooled(tokens: Tokens) -> npt.NDArray[np.int32]:
    """The number of tokens of each text that are pooled; below 1 if there are none."""
    return tokens.lengths if tokens.num_unpooled is None else tokens.lengths - tokens.num_unpooled


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
