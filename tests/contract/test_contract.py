"""The contract: requests and replies survive encoding, foreign bytes are refused."""

import contextlib
import pickle
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract import (
    MAX_BYTES_PER_JOB,
    MAX_BYTES_PER_TEXT,
    MAX_TEXTS_PER_JOB,
    EmbedOptions,
    Failure,
    Keys,
    Provenance,
    Reply,
    TextFailure,
    UnreadableText,
    build_request,
    decode_request,
    decode_result,
    encode_failure,
    encode_reply,
    encode_request,
    job_id,
    queue_name,
)
from producer.errors import EmptyRequest, InvalidOption, PayloadError, RequestError, RequestTooLarge

SOURCE = Provenance(
    model="m", revision="r", profile_id="p" * 64, profile_name="cpu-fp32-onnx", precision="fp32"
)


def reply(vectors: np.ndarray, **changes: object) -> Reply:
    fields: dict[str, Any] = {
        "vectors": vectors,
        "failures": (),
        "token_counts": np.arange(len(vectors), dtype=np.int32),
        "truncated": np.array([], dtype=np.int32),
        "scale": None,
        "provenance": SOURCE,
    }
    return Reply(**{**fields, **changes})


def test_request_has_golden_bytes() -> None:
    """The wire format of version 1 is fixed to the byte."""
    request = build_request("m", ["a", "é"], EmbedOptions(input_type="query", dimensions=8))
    assert encode_request(request).hex() == (
        "88a17601a56d6f64656ca16daa696e7075745f74797065a57175657279a87472756e63617465a44e4f4e45"
        "aa64696d656e73696f6e7308ae656d62656464696e675f74797065a7666c6f61743332"
        "a574657874739 2a161a2c3a9a77265667573656490".replace(" ", "")
    )


def test_reply_has_golden_bytes() -> None:
    """Vectors travel as raw little-endian bytes beside dtype and shape."""
    fields = msgpack.unpackb(encode_reply(reply(np.array([[1.0, -2.0]], dtype=np.float32))))
    assert fields["data"] == bytes.fromhex("0000803f000000c0")
    assert (fields["dtype"], fields["shape"], fields["v"]) == ("float32", [1, 2], 1)
    assert fields["token_counts"] == b"\x00\x00\x00\x00"


@given(texts=st.lists(st.text(), min_size=1, max_size=30))
def test_any_unicode_text_survives_the_way(texts: list[str]) -> None:
    """Whatever Python calls a valid string arrives unchanged, blank ones included."""
    request = build_request("m", texts, EmbedOptions())
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8"])
@pytest.mark.parametrize("rows", [0, 1, 5])
def test_reply_survives_the_way(dtype: str, rows: int) -> None:
    """Array, failures, counts and provenance come back as they were sent."""
    vectors = (np.random.default_rng(0).normal(size=(rows, 7)) * 50).astype(dtype)
    sent = reply(vectors, scale=0.25, failures=(TextFailure(0, "x", "y"),))
    got = decode_result(encode_reply(sent))
    assert isinstance(got, Reply)
    assert got.vectors.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got.vectors, vectors)
    assert (got.failures, got.scale, got.provenance) == (sent.failures, 0.25, SOURCE)
    np.testing.assert_array_equal(got.token_counts, sent.token_counts)


def test_failure_survives_the_way() -> None:
    """A job that failed as a whole is answered with code and message."""
    assert decode_result(encode_failure(Failure(code="c", message="m"))) == Failure(code="c", message="m")


@pytest.mark.parametrize(
    ("bad", "code", "says"),
    [
        (7, "not_a_string", "text 1 is int"),
        (None, "not_a_string", "text 1 is NoneType"),
        (b"bytes", "not_a_string", "text 1 is bytes"),
        (UnreadableText("line 7 is not JSON"), "unreadable", "text 1 cannot be read: line 7 is not JSON"),
        ("\ud800", "invalid_unicode", "text 1 has a lone surrogate at character 0"),
        ("x" * (10 * 1024 * 1024), "text_too_large", "text 1 has 10485760 bytes"),
        ("é" * (MAX_BYTES_PER_TEXT // 2 + 1), "text_too_large", "text 1 has 1048578 bytes"),
    ],
)
def test_a_bad_text_is_refused_alone(bad: object, code: str, says: str) -> None:
    """It fails by its index; its neighbours travel on, and so does the reason."""
    request = build_request("m", ["good", bad, "also good"], EmbedOptions())
    assert request.texts == ("good", None, "also good")
    got = decode_request(encode_request(request))
    assert [(one.index, one.code) for one in got.refused] == [(1, code)]
    assert says in got.refused[0].message


@given(
    st.lists(
        st.one_of(st.text(max_size=3), st.sampled_from(["\ud800", "\udc00", 7, None, b""])),
        min_size=1,
        max_size=6,
    )
)
def test_texts_are_judged_together_as_each_by_itself(texts: list[object]) -> None:
    """What is refused, why, and the bytes of the rest do not depend on a text's company."""
    together = build_request("m", texts, EmbedOptions())
    alone = [build_request("m", [text], EmbedOptions()) for text in texts]
    assert together.texts == tuple(one.texts[0] for one in alone)
    refused = [(at, each.refused[0].code) for at, each in enumerate(alone) if each.refused]
    assert [(one.index, one.code) for one in together.refused] == refused
    assert together.num_bytes == sum(one.num_bytes for one in alone)


def test_requests_over_the_limits_are_refused() -> None:
    """Too many texts, too many bytes, none at all, and one string where a list is meant."""
    with pytest.raises(EmptyRequest, match="at least one"):
        build_request("m", [], EmbedOptions())
    with pytest.raises(RequestTooLarge, match="4097 texts, the limit is 4096"):
        build_request("m", ["x"] * (MAX_TEXTS_PER_JOB + 1), EmbedOptions())
    with pytest.raises(RequestTooLarge, match="bytes, the limit is"):
        build_request(
            "m", ["x" * MAX_BYTES_PER_TEXT] * (MAX_BYTES_PER_JOB // MAX_BYTES_PER_TEXT + 1), EmbedOptions()
        )
    with pytest.raises(InvalidOption, match="wrap it in a list"):
        build_request("m", "one string", EmbedOptions())


@pytest.mark.parametrize(
    "options",
    [
        {"input_type": "document"},
        {"prompt_name": ""},
        {"prompt_name": 7},
        {"prompt_name": "two\nlines"},
        {"prompt_name": "x" * 257},
        {"prompt_name": "query", "input_type": "query"},
        {"truncate": "MIDDLE"},
        {"truncate": None},
        {"embedding_type": "float64"},
        {"dimensions": 0},
        {"dimensions": -1},
        {"dimensions": True},
        {"dimensions": 1.5},
        {"dimensions": 10**9},
    ],
)
def test_unknown_option_values_are_refused(options: dict[str, Any]) -> None:
    """The error names the option."""
    with pytest.raises(InvalidOption, match=next(iter(options))):
        EmbedOptions(**options)


class Boom:
    def __reduce__(self) -> tuple[object, ...]:
        return (exec, ("raise SystemExit",))


def valid(**changes: object) -> bytes:
    fields = msgpack.unpackb(encode_request(build_request("m", ["a"], EmbedOptions())))
    packed: bytes = msgpack.packb({**fields, **changes}, use_bin_type=True)
    return packed


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"not msgpack at all",
        pickle.dumps(Boom()),
        msgpack.packb([1, 2]),
        msgpack.packb({"v": 1}),
        msgpack.packb({"v": 2, "texts": ["a"]}),
        msgpack.packb({b"v": 1}),
        msgpack.packb({"v": 1, "texts": msgpack.ExtType(4, b"x")}),
        valid(texts=7),
        valid(model=None),
        valid(refused=[1]),
        valid(v="1"),
        b"\x91" * 2000,
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_foreign_payloads_are_payload_errors(payload: bytes) -> None:
    """Malformed, foreign, future: one error type, nothing executed, nothing huge allocated."""
    with pytest.raises(PayloadError):
        decode_request(payload)
    with pytest.raises(PayloadError):
        decode_result(payload)


def test_a_future_version_says_what_to_do() -> None:
    """Two releases side by side get a sentence, not a stack trace."""
    with pytest.raises(PayloadError, match="version 2, this side speaks 1; upgrade the older side"):
        decode_request(valid(v=2))


@given(st.binary(max_size=200))
def test_random_bytes_never_surprise(payload: bytes) -> None:
    """Only our errors come out of the decoder."""
    with pytest.raises((PayloadError, RequestError)):
        decode_request(payload)


@given(data=st.data())
def test_mutated_requests_never_surprise(data: st.DataObject) -> None:
    """A flipped byte gives a request or one of our errors."""
    payload = bytearray(valid())
    payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(PayloadError, RequestError):
        decode_request(bytes(payload))


def test_names_and_ids() -> None:
    """Queues are named as NIM names models; a job's id is its content."""
    assert queue_name("nvidia/nv-embedqa-e5-v5") == "nvidia_nv_embedqa_e5_v5"
    assert job_id(valid()) == job_id(valid()) != job_id(valid(texts=["b"]))
    assert Keys("q", "p").request("1") == "p:{q}:request:1"
