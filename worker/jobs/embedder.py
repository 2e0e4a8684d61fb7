"""Texts to vectors: each different text once, from the cache if it is known there, else from the device."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.contract import TextFailure, Truncate
from worker.batching.batcher import Batcher
from worker.batching.pending import Embedded, TextPositions
from worker.contract import FloatArray, Indices
from worker.jobs.dedup import Distinct, distinct
from worker.tokenization.tokenizer import Encoded, Tokenizer
from worker.vector_cache.cache import Known, VectorCache


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PreparedTexts:
    """Texts ready for the device: `encoded` are those at `unknown` among the different ones."""

    num_texts: int
    truncate: Truncate
    distinct: Distinct
    texts: list[str]
    known: Known | None
    unknown: Indices
    encoded: Encoded
    names: TextPositions


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Outcome:
    """What became of texts: vectors float32 (n, dim), NaN where failed; `lengths` int32 (n,) in tokens.

    `truncated` are the positions that were cut, ascending; `too_long` maps the position of a text refused
    under Truncate.NONE to its length; `failures` are the others without a vector. `num_repeated` texts
    shared a vector with another text in flight, `num_hits` were found in the cache, `num_misses` were not.
    """

    vectors: FloatArray
    lengths: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.int32]
    too_long: dict[int, int]
    failures: tuple[TextFailure, ...]
    num_repeated: int
    num_hits: int
    num_misses: int


class Embedder:
    """Tokenizer, cache and batcher as one stage. `prepare` and `outcome` are CPU work for any thread."""

    def __init__(self, tokenizer: Tokenizer, batcher: Batcher, *, cache: VectorCache | None = None) -> None:
        self.max_tokens = tokenizer.max_tokens
        self._tokenizer = tokenizer
        self._batcher = batcher
        self._cache = cache
        self.cached = cache is not None  #: then `prepare` and `outcome` wait for Redis or a disk

    def prepare(self, texts: list[str], truncate: Truncate) -> PreparedTexts:
        """Leave out repeats and what is known, tokenise the rest."""
        different = distinct(texts)
        each = texts if different.sources is None else different.texts
        known = self._cache.look_up(each, truncate) if self._cache is not None else None
        unknown = np.arange(len(each))
        if known is not None:
            unknown = np.delete(unknown, known.places)
        to_encode = each if len(unknown) == len(each) else [each[place] for place in unknown.tolist()]
        encoded = self._tokenizer.encode(to_encode, truncate)
        return PreparedTexts(
            num_texts=len(texts),
            truncate=truncate,
            distinct=different,
            texts=each,
            known=known,
            unknown=unknown,
            encoded=encoded,
            names=_names(different, to_encode, encoded, truncate),
        )

    async def embed(self, prepared: PreparedTexts, *, shared: bool = True) -> Embedded:
        """The vectors of the texts that have tokens; see `Batcher.embed`.

        Texts of other jobs are computed for it, and its own for them, unless it is not `shared`.
        """
        names = prepared.names if shared else None
        return await self._batcher.embed(prepared.encoded.tokens, position_of=names)

    async def drained(self) -> None:
        """Wait until the device has nothing of ours; see `Batcher.drained`."""
        await self._batcher.drained()

    def outcome(self, prepared: PreparedTexts, embedded: Embedded) -> Outcome:
        """Everything about every text given to `prepare`; what was computed goes into the cache."""
        encoded, unknown = prepared.encoded, prepared.unknown
        places = unknown[encoded.kept]
        cut = np.zeros(len(prepared.texts), dtype=np.bool_)
        cut[unknown[encoded.truncated]] = True
        computed = Known(places, embedded.vectors, encoded.tokens.lengths, cut[places])
        if self._cache is not None:
            self._cache.keep(prepared.texts, prepared.truncate, computed)
        known = prepared.known
        parts = [computed] if known is None or len(known.places) == 0 else [computed, known]
        whole = _merged(parts, len(prepared.texts))
        failures = [(int(places[one.index]), one) for one in embedded.failures]
        too_long = {int(unknown[at]): size for at, size in encoded.too_long.items()}
        num_hits = 0 if known is None else len(known.places)
        return _for_each_text(
            prepared.distinct.sources,
            Outcome(
                vectors=whole.vectors,
                lengths=whole.lengths,
                truncated=np.flatnonzero(whole.truncated).astype(np.int32),
                too_long=too_long,
                failures=tuple(TextFailure(place, one.code, one.message) for place, one in failures),
                num_repeated=prepared.num_texts - len(prepared.texts) + embedded.num_coalesced,
                num_hits=num_hits,
                num_misses=0 if known is None else len(prepared.texts) - num_hits,
            ),
        )


def _names(different: Distinct, texts: Sequence[str], encoded: Encoded, truncate: Truncate) -> TextPositions:
    """The position among the kept of each text, by what decides its ids: the text, and how it was cut."""
    if len(encoded.kept) == len(different.places) and len(encoded.truncated) == 0:
        return different.places
    names: dict[Any, int] = dict(different.places)
    if len(encoded.kept) < len(names):
        names = {texts[at]: position for position, at in enumerate(encoded.kept.tolist())}
    for at in encoded.truncated.tolist():
        names[truncate, texts[at]] = names.pop(texts[at])
    return names


def _merged(parts: Sequence[Known], count: int) -> Known:
    """What is known about `count` texts from all the parts; the others have NaN and no tokens."""
    if len(parts) == 1 and len(parts[0].places) == count:
        return parts[0]  # nothing to move: the usual case
    dim = parts[0].vectors.shape[1]
    vectors = np.full((count, dim), np.nan, dtype=np.float32)
    lengths = np.zeros(count, dtype=np.int32)
    truncated = np.zeros(count, dtype=np.bool_)
    for part in parts:
        vectors[part.places] = part.vectors
        lengths[part.places] = part.lengths
        truncated[part.places] = part.truncated
    return Known(np.arange(count), vectors, lengths, truncated)


def _for_each_text(sources: Indices | None, of_different: Outcome) -> Outcome:
    """The outcome of all texts from that of the different ones."""
    if sources is None:
        return of_different
    too_long = of_different.too_long
    failures = {one.index: one for one in of_different.failures}
    # Few texts are either, and the others are not worth a step each.
    odd = [(at, int(sources[at])) for at in np.flatnonzero(np.isin(sources, [*too_long, *failures])).tolist()]
    return Outcome(
        vectors=of_different.vectors[sources],
        lengths=of_different.lengths[sources],
        truncated=np.flatnonzero(np.isin(sources, of_different.truncated)).astype(np.int32),
        too_long={at: too_long[place] for at, place in odd if place in too_long},
        failures=tuple(
            TextFailure(at, failures[place].code, failures[place].message)
            for at, place in odd
            if place in failures
        ),
        num_repeated=of_different.num_repeated,
        num_hits=of_different.num_hits,
        num_misses=of_different.num_misses,
    )
