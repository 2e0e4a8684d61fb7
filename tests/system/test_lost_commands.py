"""Any command of a job's life may be lost once, or its reply: every job is answered, once, and rightly."""

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from redis.asyncio import Redis
from support.cut_connections import Way
from support.redis_hashes import hgetall, hset
from support.serving import MODEL, booted, worker
from support.text_bytes import text_bytes

from producer import Client
from producer.contract import Keys, Truncate, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import JobFailed
from worker.backends.fake import fake_vectors
from worker.consumer.bisection import Bisection, Range
from worker.settings import Settings

KEYS = Keys(queue_name(MODEL))
TEXTS = ["one", "two", "three"]
NUM_DONE = 8  # jobs that `life` has answered
Side = Literal["client", "worker"]


async def life(client_url: str, worker_url: str, redis: Redis) -> None:
    """Jobs of every kind, each from its beginning to its end."""
    async with Client(client_url, model=MODEL) as client:
        cancelled = (await client.submit(["cancelled"])).job
        await client.cancel(cancelled)
        tired = (await client.submit(["tired"])).job
        suspect = (await client.submit(["a suspect", "another"])).job
        deadly = (await client.submit(["deadly", "harmless"])).job
        await hset(redis, KEYS.job(tired), "tries", 3)
        await hset(redis, KEYS.job(suspect), "bisection", "")
        half_found = Bisection(killers=(0,), suspects=(Range(1, 2),))
        await hset(redis, KEYS.job(deadly), "bisection", half_found.encode())
    async with (
        worker(worker_url, lease_s=1.5, backend={"delay_s": 0.05}),
        Client(client_url, model=MODEL) as client,
    ):
        reply = await client.embed(TEXTS, timeout_s=30)
        np.testing.assert_array_equal(reply.vectors, expected())
        assert (await client.embed(["a text", None], timeout_s=30)).failures[0].index == 1
        assert [one async for one in client.embed_many([["many"], ["times"]])]
        consumed = (await client.submit(["consumed"])).job
        assert (await client.result(consumed, timeout_s=30, consume=True)).ok
        assert (await client.result(suspect, timeout_s=30)).ok
        with pytest.raises(JobFailed, match="given up"):
            await client.result(tired, timeout_s=30)
        await client.requeue(tired)
        assert (await client.result(tired, timeout_s=30)).ok
        assert [one.code for one in (await client.result(deadly, timeout_s=30)).failures] == ["killed_worker"]
        assert [one.job for one in await client.dead_letters()] == [f"{deadly}-killers"]
        await client.drop(f"{deadly}-killers")


@cache
def expected() -> np.ndarray:
    """The vectors of TEXTS."""
    found = booted(Settings(model=MODEL))
    found.backend.close()
    return fake_vectors(found.tokenizer.encode(TEXTS, Truncate.END).tokens, found.model.dim)


async def check(redis: Redis) -> None:
    """Every job was done once; nothing is left that does not expire."""
    totals = await hgetall(redis, KEYS.totals)
    assert await text_bytes(redis, KEYS) == 0, totals
    assert totals[b"done"] == b"%d" % NUM_DONE, totals
    assert totals[b"cancelled"] == b"1", totals
    assert totals[b"failed"] == b"1", totals
    for key in (KEYS.pending, KEYS.leases, KEYS.dead_letters):
        assert await redis.zcard(key) == 0, key
    lasting = {key.decode() for key in await redis.keys() if await redis.ttl(key) == -1}
    assert lasting <= {KEYS.totals, KEYS.workers}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("executed", [False, True], ids=["command lost", "reply lost"])
@pytest.mark.parametrize("side", ["client", "worker"])
async def test_each_is_lost_once(
    side: Side, executed: bool, redis: Redis, server: EmbeddedServer, tmp_path: Path
) -> None:
    """First a life is watched without a fault; then there is one for each of the commands that it took."""
    watched = Way(server.url, tmp_path / "way.sock")
    urls = {"client": server.url, "worker": server.url} | {side: watched.url}
    async with watched:
        await life(urls["client"], urls["worker"], redis)
        await check(redis)
    for command in watched.seen:
        has_cut = False
        while not has_cut:  # some are sent only if an answer is late
            await redis.flushall()
            async with Way(server.url, tmp_path / "way.sock", cut=command, executed=executed) as way:
                await life(urls["client"], urls["worker"], redis)
                await check(redis)
            has_cut = way.has_cut
