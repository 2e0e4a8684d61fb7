"""Bytes that anybody may have put on the queue are decoded in memory that their size bounds."""

import asyncio
import tracemalloc
from collections.abc import Callable

import msgpack
import pytest
from redis.asyncio import Redis
from support.serving import MODEL, worker

from producer import Client
from producer.contract import (
    MAX_BYTES_PER_JOB,
    MAX_BYTES_PER_TEXT,
    MAX_REQUEST_BYTES,
    MAX_TEXTS_PER_JOB,
    EmbedOptions,
    Keys,
    build_request,
    decode_record,
    decode_request,
    decode_result,
    encode_request,
    queue_name,
)
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed, PayloadError, RequestError

KEYS = Keys(queue_name(MODEL))
MANY = b"\xdc\xff\xff"  # the header of an array of 65,535

BOMBS = {
    "lists of empty lists": MANY + (b"\xdc\x40\x00" + b"\x90" * 16_384) * 300,
    "maps of empty maps": MANY + (b"\xde\x40\x00" + b"\xa0\x80" * 16_384) * 150,
    "deep nesting": b"\x91" * 3_000_000,
    "deep nesting of long lists": MANY * 1_000_000,
    "many small strings": MANY + b"\xa2ab" * 1_000_000,
    "a list longer than it can be": b"\xdd\xff\xff\xff\xff",
    "a text longer than it can be": b"\x91\xdb\xff\xff\xff\xff",
    "bytes longer than they can be": b"\xc6\xff\xff\xff\xff",
    "an extension": b"\xc9\xff\xff\xff\xff\x01",
}
DECODERS: dict[str, Callable[[bytes], object]] = {
    "texts": decode_request,
    "refused": decode_request,
    "model": decode_request,
    "failures": decode_result,
    "error": decode_result,
    "shape": decode_result,
    "data": decode_result,
    "profiles_failed": decode_record,
}


def field(name: str, value: bytes) -> bytes:
    """A message whose first field holds these bytes."""
    return b"\x82" + bytes(msgpack.packb(name)) + value + b"\xa1v\x01"


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_refused_before_it_goes_off(name: str, bomb: str) -> None:
    """Whichever field it is in, and in a field that we do not know."""
    for field_name in (name, "unknown"):
        payload = field(field_name, BOMBS[bomb])
        tracemalloc.start()
        try:
            with pytest.raises((PayloadError, RequestError)):
                DECODERS[name](payload)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 2 * len(payload) + 4_000_000


def test_the_size_is_checked_before_anything_is_read() -> None:
    """Of requests and records; the largest request passes."""
    texts = ["é" * (MAX_BYTES_PER_JOB // MAX_TEXTS_PER_JOB // 2)] * MAX_TEXTS_PER_JOB
    largest = encode_request(build_request(MODEL, texts, EmbedOptions()))
    assert len(decode_request(largest).texts) == MAX_TEXTS_PER_JOB
    refused = ["x" * (MAX_BYTES_PER_TEXT + 1)] * MAX_TEXTS_PER_JOB
    assert len(encode_request(build_request(MODEL, refused, EmbedOptions()))) < MAX_REQUEST_BYTES
    for decode in (decode_request, decode_record):
        with pytest.raises(PayloadError, match="bytes, the limit is"):
            decode(b"\xa0" * (MAX_REQUEST_BYTES + 1))


def test_nothing_follows_a_message() -> None:
    """Else two readers may see two messages."""
    with pytest.raises(PayloadError, match="goes on"):
        decode_request(encode_request(build_request(MODEL, ["text"], EmbedOptions())) + b"\x80")


@pytest.mark.every_server
@pytest.mark.parametrize("payload", [field("texts", BOMBS["lists of empty lists"]), b"x" * 30_000_000])
async def test_a_worker_and_a_client_answer_it(redis: Redis, server: EmbeddedServer, payload: bytes) -> None:
    """As a failure of its job, or an error; the worker reads no more than the largest request has."""
    async with worker(server.url), Client(server.url, model=MODEL) as client:
        await redis.set(KEYS.request("bomb"), payload)
        await redis.zadd(KEYS.pending, {"bomb": 1})
        async with asyncio.timeout(10):
            while not await redis.exists(KEYS.result("bomb")):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        with pytest.raises(JobFailed) as failed:
            await client.result("bomb")
        assert failed.value.worker_code == "bad_payload"
        await redis.set(KEYS.result("answer"), payload)
        with pytest.raises(PayloadError):
            await client.result("answer")
        assert (await client.embed(["still here"])).ok
