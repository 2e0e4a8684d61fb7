"""The wire to the byte: messages are encoded as the files in tests/data/golden/wire have them.

If one fails, producers and workers of two releases no longer understand each other, or the same texts get
another job id. The bytes change only together with `VERSION`.
"""

from collections.abc import Callable

import numpy as np
import pytest
from support.paths import ROOT

from producer.contract import (
    EmbedOptions,
    Failure,
    Provenance,
    Reply,
    Request,
    TextFailure,
    WorkerRecord,
    decode_record,
    decode_request,
    decode_result,
    encode_failure,
    encode_record,
    encode_reply,
    encode_request,
    job_id,
)

WIRE = ROOT / "tests" / "data" / "golden" / "wire"
SOURCE = Provenance(
    model="nvidia/nv-embed",
    revision="0123abc",
    profile_id="5" * 64,
    profile_name="cpu-fp32-onnx",
    precision="fp32",
)
#: The empty text, characters of one to four bytes, and a text that was refused.
TEXTS = ("a plain text", "", "naïve 中文 🙂\x00\n", None, "é" * 40)
REFUSED = (TextFailure(3, "not_a_string", "text 3 is int, not a string"),)


def _request(options: EmbedOptions) -> bytes:
    return encode_request(Request(model="nvidia/nv-embed", texts=TEXTS, options=options, refused=REFUSED))


def _reply(
    dtype: str, *, scale: float | None = None, width: int = 6, prompt_name: str | None = None
) -> bytes:
    vectors = np.arange(-9, 3 * width - 9).reshape(3, width)
    exact = vectors / 8 if dtype.startswith("float") else vectors % 256 if dtype == "uint8" else vectors
    return encode_reply(
        Reply(
            vectors=exact.astype(dtype),
            failures=(TextFailure(1, "too_long", "text 1 has 300 tokens"),),
            token_counts=np.array([4, 0, 256], dtype=np.int32),
            truncated=np.array([2], dtype=np.int32),
            scale=scale,
            provenance=SOURCE,
            prompt_name=prompt_name,
        )
    )


def _empty_reply() -> bytes:
    none = np.array([], dtype=np.int32)
    return encode_reply(
        Reply(
            vectors=np.empty((0, 6), dtype=np.float32),
            failures=(),
            token_counts=none,
            truncated=none,
            scale=None,
            provenance=SOURCE,
        )
    )


def _record() -> bytes:
    return encode_record(
        WorkerRecord(
            name="host:7:0123abcd",
            host="host",
            pid=7,
            device="cpu",
            model="nvidia/nv-embed",
            revision="0123abc",
            profile="cpu-fp32-onnx",
            profile_id="5" * 64,
            precision="fp32",
            reason="",
            ready_for_s=12.5,
            jobs_done=3,
            texts_done=70_000,
            tokens_done=5_000_000_000,
            failures={"too_long": 2},
            profiles_failed={"gpu-fp16-onnx": "no GPU"},
            batches=9,
            batch_texts=300,
            batch_tokens=4000,
            batch_cost_tokens=4400,
            batch_budget_tokens=65536,
            busy_s=0.25,
        )
    )


MESSAGES: dict[str, Callable[[], bytes]] = {
    "request": lambda: _request(EmbedOptions()),
    "request-with-options": lambda: _request(
        EmbedOptions(input_type="passage", truncate="END", dimensions=256, embedding_type="ubinary")
    ),
    "request-with-prompt-name": lambda: _request(EmbedOptions(prompt_name="retrieval.query")),
    "reply-float32": lambda: _reply("float32"),
    "reply-float16": lambda: _reply("float16"),
    "reply-int8": lambda: _reply("int8", scale=0.0024108),
    "reply-uint8": lambda: _reply("uint8", scale=0.0024108),
    "reply-with-prompt-name": lambda: _reply("float32", prompt_name="retrieval.query"),
    "reply-without-texts": _empty_reply,
    "failure": lambda: encode_failure(Failure(code="queue_full", message="the queue is full; retry later")),
    "worker-record": _record,
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_has_its_golden_bytes(name: str) -> None:
    """Every byte of every kind of message is the one in its file."""
    assert MESSAGES[name]().hex() == (WIRE / f"{name}.hex").read_text().replace("\n", "")


def test_every_golden_file_has_its_message() -> None:
    """No file is left over."""
    assert {path.stem for path in WIRE.iterdir()} == set(MESSAGES)


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.startswith("request")])
def test_a_golden_request_is_read_back(name: str) -> None:
    """A request of an earlier release decodes, and encodes to the same bytes."""
    payload = bytes.fromhex((WIRE / f"{name}.hex").read_text())
    assert encode_request(decode_request(payload)) == payload


@pytest.mark.parametrize("name", [name for name in MESSAGES if name.startswith("reply")])
def test_a_golden_reply_is_read_back(name: str) -> None:
    """A reply of an earlier release decodes, and encodes to the same bytes."""
    payload = bytes.fromhex((WIRE / f"{name}.hex").read_text())
    reply = decode_result(payload)
    assert isinstance(reply, Reply)
    assert encode_reply(reply) == payload


def test_a_golden_record_is_read_back() -> None:
    """The record of a worker of an earlier release decodes, and encodes to the same bytes."""
    payload = bytes.fromhex((WIRE / "worker-record.hex").read_text())
    assert encode_record(decode_record(payload)) == payload


def test_the_same_texts_have_the_same_job_id() -> None:
    """Deduplication works between releases."""
    assert job_id(MESSAGES["request"]()) == "2209a0d9f690c2095b57481a4b2067fd"
