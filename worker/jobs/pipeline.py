"""From a job's payload to tokens, and from its vectors to the encoded reply."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from producer.contract import (
    Provenance,
    Reply,
    Request,
    TextFailure,
    Truncate,
    decode_request,
    encode_reply,
)
from producer.errors import InvalidOption, PayloadError
from worker.batching.pending import Embedded, TextPositions
from worker.consumer.bisection import Range
from worker.contract import FloatArray, Indices
from worker.jobs.dedup import Distinct, distinct
from worker.jobs.postprocess import cast, out_of_range, shorten
from worker.prompts import Prompt, Prompts
from worker.startup.element_limit import ElementLimit
from worker.tokenization.tokenizer import Encoded, Tokenizer
from worker.vector_cache.cache import Known, VectorCache


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedModel:
    """The model that requests may name by any of its `names`, and what its replies need."""

    names: frozenset[str]
    provenance: Provenance
    prompts: Prompts
    dim: int
    matryoshka: bool
    element_limit: ElementLimit


@dataclass(frozen=True, slots=True, eq=False)
class CheckedRequest:
    """A request that this worker can serve, and the prompt to put before each of its texts.

    The first `num_unpooled` tokens of each are left out of pooling.
    """

    request: Request
    prompt: Prompt
    num_unpooled: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RequestPart:
    """Texts of a request, ready for the batcher.

    `rows` intp (k,) are the indices in the request of those that were not refused. Of the `distinct` texts
    among them, `cached` are those found in the cache, None without a cache; the others, at the positions
    `misses`, are tokenized in `encoded`. `position_of` finds a text in `encoded.tokens`.
    """

    checked: CheckedRequest
    rows: Indices
    distinct: Distinct
    cached: Known | None
    misses: Indices
    encoded: Encoded
    position_of: TextPositions


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class PartResult:
    """The answers to the texts at `rows` of a request, intp (k,).

    `vectors` float32 (k, dim), NaN where a text failed; `token_counts` int32 (k,); `truncated` bool (k,).
    `failures` have the index in the request. `num_repeated` texts got the vector of an equal text, of this
    job or another; `num_cache_hits` distinct texts were in the cache and `num_cache_misses` were not.
    """

    rows: Indices
    vectors: FloatArray
    token_counts: npt.NDArray[np.int32]
    truncated: npt.NDArray[np.bool_]
    failures: tuple[TextFailure, ...]
    num_repeated: int
    num_cache_hits: int
    num_cache_misses: int


@dataclass(frozen=True, slots=True, eq=False)
class EncodedReply:
    """A reply, its bytes, and the results of the parts it was made from."""

    reply: Reply
    payload: bytes
    results: Sequence[PartResult]


class RequestPipeline:
    """All work on a request except the batching: read and prepare before it, finish after it.

    A request may be processed in parts: each is prepared and merged separately, and all are encoded together
    at the end. Every method is CPU work that any thread may do; if `blocking`, `prepare` and `merge` also
    wait for the store of the vector cache.
    """

    def __init__(
        self, served: ServedModel, tokenizer: Tokenizer, *, cache: VectorCache | None = None
    ) -> None:
        self.blocking = cache is not None
        self._served = served
        self._tokenizer = tokenizer
        self._cache = cache

    def read(self, payload: bytes | None) -> CheckedRequest:
        """Decode the request and check that it can be served. Raises RequestError or PayloadError."""
        if payload is None:
            raise PayloadError("the job has no request: it was removed or has expired; submit the job again")
        request, served = decode_request(payload), self._served
        if request.model not in served.names:
            raise InvalidOption(f"this queue serves {served.provenance.model!r}, not {request.model!r:.80}")
        _check_dimensions(request.options.dimensions, served)
        prompt = served.prompts.chosen(request.options)
        return CheckedRequest(request, prompt, self._tokenizer.num_unpooled(prompt.text))

    def prepare(self, checked: CheckedRequest, span: Range | None = None) -> RequestPart:
        """Deduplicate the texts in the range, or all, look them up in the cache and tokenize the rest."""
        request, num_unpooled = checked.request, checked.num_unpooled
        start, end = (0, len(request.texts)) if span is None else (span.start, span.end)
        requested = request.texts[start:end]
        texts = [checked.prompt.text + text for text in requested if text is not None]
        rows = np.arange(start, end)
        if len(texts) < len(requested):
            rows = rows[[text is not None for text in requested]]
        found = distinct(texts)
        truncate, misses = request.options.truncate, np.arange(len(found.texts))
        cached = None
        if self._cache is not None:
            cached = self._cache.look_up(found.texts, truncate, num_unpooled=num_unpooled)
            misses = np.delete(misses, cached.places)
        missed = found.texts
        if len(misses) < len(missed):
            missed = [found.texts[position] for position in misses.tolist()]
        encoded = self._tokenizer.encode(missed, truncate, num_unpooled=num_unpooled)
        position_of = _position_of(found, missed, encoded, truncate)
        if num_unpooled:  # equal ids, but another vector than that of a text without a prompt
            position_of = {(num_unpooled, key): position for key, position in position_of.items()}
        return RequestPart(
            checked=checked,
            rows=rows,
            distinct=found,
            cached=cached,
            misses=misses,
            encoded=encoded,
            position_of=position_of,
        )

    def finish(self, part: RequestPart, embedded: Embedded) -> EncodedReply:
        """Merge and encode a request that was processed as one part."""
        return self.encode(part.checked, [self.merge(part, embedded)])

    def merge(self, part: RequestPart, embedded: Embedded) -> PartResult:
        """Merge computed and cached vectors into one result for each text, and cache the computed ones."""
        texts, encoded, cached = part.distinct.texts, part.encoded, part.cached
        truncated = np.zeros(len(texts), dtype=np.bool_)
        truncated[part.misses[encoded.truncated]] = True
        computed_at = part.misses[encoded.kept]
        computed = Known(computed_at, embedded.vectors, encoded.tokens.lengths, truncated[computed_at])
        if self._cache is not None:
            truncate = part.checked.request.options.truncate
            self._cache.keep(texts, truncate, computed, num_unpooled=part.checked.num_unpooled)
        num_cache_hits = 0 if cached is None else len(cached.places)
        sources = [computed] if cached is None or num_cache_hits == 0 else [computed, cached]
        merged, inverse = _merged(sources, len(texts)), part.distinct.inverse
        return PartResult(
            rows=part.rows,
            vectors=merged.vectors if inverse is None else merged.vectors[inverse],
            token_counts=merged.lengths if inverse is None else merged.lengths[inverse],
            truncated=merged.truncated if inverse is None else merged.truncated[inverse],
            failures=tuple(_failures(part, embedded, self._tokenizer.max_tokens)),
            num_repeated=len(part.rows) - len(texts) + embedded.num_coalesced,
            num_cache_hits=num_cache_hits,
            num_cache_misses=0 if cached is None else len(texts) - num_cache_hits,
        )

    def encode(
        self, checked: CheckedRequest, results: Sequence[PartResult], killers: Iterable[TextFailure] = ()
    ) -> EncodedReply:
        """Encode the reply to all texts: those of the results, the killers, and the refused ones."""
        request = checked.request
        count = len(request.texts)
        token_counts = np.zeros(count, dtype=np.int32)
        truncated = np.zeros(count, dtype=np.bool_)
        failures = [*request.refused, *killers]
        for result in results:
            token_counts[result.rows] = result.token_counts
            truncated[result.rows] = result.truncated
            failures += result.failures
        limit, options = self._served.element_limit, request.options
        kind = options.embedding_type
        vectors = _vectors(count, results, self._served.dim)
        vectors = shorten(vectors, options.dimensions, unit=limit.unit)
        final = cast(vectors, kind, limit=limit.of(vectors.shape[1]))
        failures += [out_of_range(index, vectors[index], kind, final) for index in final.lost.tolist()]
        if failures:
            token_counts[[one.index for one in failures]] = 0
        reply = Reply(
            vectors=final.vectors,
            failures=tuple(sorted(failures, key=lambda one: one.index)),
            token_counts=token_counts,
            truncated=np.flatnonzero(truncated).astype(np.int32),
            scale=final.scale,
            provenance=self._served.provenance,
            prompt_name=checked.prompt.name,
        )
        return EncodedReply(reply, encode_reply(reply), results)


def _check_dimensions(dimensions: int | None, served: ServedModel) -> None:
    model = served.provenance.model
    if dimensions is None or dimensions == served.dim:
        return
    if not served.matryoshka:  # the first sentence is NIM's, which clients match on
        raise InvalidOption(
            f"This model does not support 'dimensions', but a value of '{dimensions}' was provided. "
            f"The vectors of {model} have {served.dim} dimensions."
        )
    if dimensions > served.dim:
        raise InvalidOption(f"dimensions is {dimensions}, but {model} has {served.dim}")


def _position_of(
    found: Distinct, texts: Sequence[str], encoded: Encoded, truncate: Truncate
) -> TextPositions:
    """The position of each encoded text by what determines its ids: the text and how it was truncated."""
    if len(encoded.kept) == len(found.position_of) and len(encoded.truncated) == 0:
        return found.position_of
    position_of: dict[Any, int] = dict(found.position_of)
    if len(encoded.kept) < len(position_of):
        position_of = {texts[at]: position for position, at in enumerate(encoded.kept.tolist())}
    for at in encoded.truncated.tolist():
        position_of[truncate, texts[at]] = position_of.pop(texts[at])
    return position_of


def _merged(sources: Sequence[Known], count: int) -> Known:
    """Merge the sources into one entry per text; texts in none of them get NaN and zero tokens."""
    if len(sources) == 1 and len(sources[0].places) == count:
        return sources[0]  # nothing to copy: the usual case
    dim = sources[0].vectors.shape[1]
    vectors = np.full((count, dim), np.nan, dtype=np.float32)
    lengths = np.zeros(count, dtype=np.int32)
    truncated = np.zeros(count, dtype=np.bool_)
    for source in sources:
        vectors[source.places] = source.vectors
        lengths[source.places] = source.lengths
        truncated[source.places] = source.truncated
    return Known(np.arange(count), vectors, lengths, truncated)


def _vectors(count: int, results: Sequence[PartResult], dim: int) -> FloatArray:
    """The vectors of all texts of a request, NaN where there is none."""
    if len(results) == 1 and len(results[0].rows) == count:
        return results[0].vectors  # nothing to copy: the usual case
    vectors = np.full((count, dim), np.nan, dtype=np.float32)
    for result in results:
        vectors[result.rows] = result.vectors
    return vectors


def _failures(part: RequestPart, embedded: Embedded, max_tokens: int) -> Iterable[TextFailure]:
    """The failures of a part's texts, repeated ones included, with their index in the request."""
    computed_at, encoded = part.misses[part.encoded.kept], part.encoded
    failed = {int(computed_at[one.index]): one for one in embedded.failures}
    refused = {int(part.misses[at]): at for at in (*encoded.too_long, *encoded.empty, *encoded.no_row)}
    if not failed and not refused:
        return
    inverse = part.distinct.inverse
    position_of_row = np.arange(len(part.rows)) if inverse is None else inverse
    affected = np.isin(position_of_row, [*failed, *refused])
    for index, position in zip(part.rows[affected].tolist(), position_of_row[affected].tolist(), strict=True):
        if position in refused:
            yield _refusal(index, part, refused[position], max_tokens)
        else:
            failure = failed[position]
            yield TextFailure(index, failure.code, f"text {index}: {failure.message}")


def _refusal(index: int, part: RequestPart, at: int, max_tokens: int) -> TextFailure:
    """Why the text at this position of the part's `encoded` was not tokenized."""
    encoded = part.encoded
    if at in encoded.too_long:  # NIM's sentence, since clients match on it
        return TextFailure(
            index,
            "text_too_long",
            f"Input length {encoded.too_long[at]} exceeds maximum allowed token size {max_tokens} "
            f"(text {index}; truncate START or END cuts it)",
        )
    if at in encoded.empty:
        why = ": the model's tokenizer finds none in it and adds none"
        if part.checked.num_unpooled:
            why = " besides its prompt, which this model leaves out of pooling"
        return TextFailure(index, "text_without_tokens", f"text {index} has no tokens{why}; leave it out")
    return TextFailure(
        index,
        "token_without_vector",
        f"text {index} has the token {encoded.no_row[at]!r:.80}, for which this model has no vector; "
        "write it differently",
    )
