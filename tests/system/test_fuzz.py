"""Strangers' bytes on the queue: none kills a worker, each is answered with a code."""

import asyncio
import logging
import random

import pytest
from redis.asyncio import Redis
from support.serving import MODEL, worker

from producer import Client, EmbedOptions
from producer.contract import Failure, Keys, build_request, decode_result, encode_request, queue_name
from producer.embedded.services import EmbeddedServer

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
NUM_PAYLOADS = 100_000
AT_ONCE = 2_000
CODES = {"bad_payload", "invalid_option", "empty_request", "request_too_large", "invalid_request"}


@pytest.fixture
def _no_job_lines() -> object:
    """A line for each of the jobs would fill the memory of the capture."""
    logging.disable(logging.WARNING)
    yield
    logging.disable(logging.NOTSET)


def payloads(rng: random.Random) -> bytes:
    """Random bytes, or a good request with some of its bytes changed, cut or doubled."""
    if rng.random() < 0.2:
        return rng.randbytes(rng.randrange(200))
    texts = ["".join(chr(rng.randrange(32, 1000)) for _ in range(rng.randrange(20))) for _ in range(3)]
    good = bytearray(encode_request(build_request(MODEL, texts, EmbedOptions())))
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(good))
        change = rng.randrange(3)
        if change == 0:
            good[at] = rng.randrange(256)
        elif change == 1:
            del good[at : at + rng.randrange(1, 20)]
        else:
            good[at:at] = good[at : at + 5]
        if not good:
            break
    return bytes(good)


@pytest.mark.slow
@pytest.mark.first_server
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("_no_job_lines")
async def test_no_payload_kills_a_worker(redis: Redis, server: EmbeddedServer) -> None:
    """A hundred thousand of them; and the worker still serves."""
    rng, codes, num_embedded = random.Random(11), set(), 0
    async with worker(server.url), Client(server.url, model=MODEL) as client:
        for start in range(0, NUM_PAYLOADS, AT_ONCE):
            names = [f"stray-{number}" for number in range(start, start + AT_ONCE)]
            async with redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.set(KEYS.request(name), payloads(rng))
                pipe.zadd(KEYS.pending, dict.fromkeys(names, 1))
                await pipe.execute()
            while await redis.zcard(KEYS.pending) or await redis.zcard(KEYS.leases):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            for answer in map(decode_result, await redis.mget([KEYS.result(name) for name in names])):
                if isinstance(answer, Failure):
                    codes.add(answer.code)
                else:
                    num_embedded += 1
        assert (await client.embed(["still here"])).ok
    assert codes <= CODES
    assert "bad_payload" in codes
    assert 0 < num_embedded < NUM_PAYLOADS
    assert await redis.zcard(KEYS.dead_letters) == 0
