"""A busy mix of everything leaves no key that the reference does not list, and none without an end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Redis
from support.redis_hashes import hset
from support.serving import MODEL, worker

from producer import Client, QueueLimits
from producer.contract import (
    EmbedOptions,
    Failure,
    Keys,
    build_request,
    encode_failure,
    encode_request,
    queue_name,
)
from producer.embedded.services import EmbeddedServer
from producer.errors import EmbedmillError
from producer.queue.enqueue import STAGED_S
from producer.transport.connect import end_tasks
from worker.consumer.leases import JobResult, Leases, NewDeadLetter
from worker.consumer.starting import announced

pytestmark = pytest.mark.every_server

KEYS = Keys(queue_name(MODEL))
ANSWER = JobResult(encode_failure(Failure(code="test", message="an answer")))
# Every key with its type and how long it lives, at one moment.
EVERYTHING = """
local found = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  found[#found + 1] = {key, redis.call('TYPE', key).ok, redis.call('PTTL', key)}
end
return found
"""


def listed() -> dict[str, str]:
    """What the table of keys is made from: the type of each by its name, or by how its name begins."""
    members = {name: of for name, of in vars(Keys).items() if not name.startswith("_")}
    found = {}
    for of in (of for name, of in members.items() if name not in ("queue", "prefix", "root")):
        member: Any = of.fget if isinstance(of, property) else of
        name = member(KEYS) if isinstance(of, property) else member(KEYS, "*")
        found[name] = member.__doc__.partition(":")[0]
    return found


def type_of(key: str, types: dict[str, str]) -> str | None:
    """The type that the table gives for a key, None if it does not have it."""
    family = key[: key.find(":", len(KEYS.root)) + 1] + "*"
    return types.get(key) or types.get(family)


@asynccontextmanager
async def watched(redis: Redis) -> AsyncIterator[set[str]]:
    """Looks at all keys again and again; yields those seen, and fails for one that should not be."""
    types, seen = listed(), set()

    async def look() -> None:
        everything: Any = redis.eval(EVERYTHING, 0)
        for raw, kind, ttl_ms in await everything:
            key = raw.decode()
            assert type_of(key, types) == kind.decode(), f"{key} is not in the table of keys"
            assert ttl_ms > 0, f"{key} has no end"
            seen.add(key if key in types else key[: key.find(":", len(KEYS.root)) + 1] + "*")

    async def look_often() -> None:
        while True:
            await look()
            await asyncio.sleep(0.01)

    looking = asyncio.create_task(look_often())
    yield seen
    if looking.done():
        looking.result()
    await end_tasks(looking)
    await look()


async def ask_in_every_way(url: str, number: int) -> None:
    """As producers do: waiting, leaving, joining, naming, in runs, with deadlines, and cancelling."""
    async with Client(url, model=MODEL, run=f"run-{number % 2}") as one, Client(url, model=MODEL) as two:
        leaving = asyncio.create_task(one.embed([f"left {number}"] * 50))
        job = (await one.submit(["shared"], priority="low")).job
        await two.submit(["shared"], priority="high")
        await two.submit([f"named {number}"], job=f"name-{number}")
        await two.submit([f"late {number}"], deadline_s=0.01)
        await end_tasks(leaving)
        with suppress(EmbedmillError):  # cancelled by another
            async for reply in one.embed_many([[f"many {number} {n}", "again"] for n in range(20)]):
                assert reply.ok
        cancelled = (await two.submit([f"cancelled {number}"])).job
        await two.cancel(cancelled)
        await one.cancel_run("run-0")
        for _ in range(2):
            with suppress(EmbedmillError):
                await two.result(job, timeout_s=5, consume=number % 3 == 0)
        assert (await two.embed([f"last {number}"])).ok


async def give_up_in_every_way(url: str, redis: Redis) -> None:
    """As workers do: whole jobs and single texts; then requeued, dropped, and found malformed."""
    owner = Leases(redis, KEYS, worker="owner", lease_s=30)
    failure = Failure(code="test", message="given up")
    async with Client(url, model=MODEL) as client:
        for n in range(4):
            await client.submit([f"given up {n}"])
        (buried, _), (split, _), (paused, _), _ = await owner.claim(4, 1 << 30)
        await owner.bury(buried, failure, tries=1)
        request = encode_request(build_request(MODEL, ["killer"], EmbedOptions()))
        letter = NewDeadLetter(
            job="killers", request=request, num_bytes=6, num_texts=1, failure=failure, tries=1
        )
        await owner.finish(split, JobResult(ANSWER.payload, letter))
        await owner.release(paused, pause_s=0.1, burn_try=True)
        assert await client.requeue(buried.job)
        given_up = (await client.submit(["too many tries"])).job
        await hset(redis, KEYS.job(given_up), "tries", 9)
        await hset(redis, KEYS.totals, "heard", 1)
        await owner.renew(redis, [])  # finds that no worker was heard from for long
        await client.pause(for_s=0.1)
    async with Client(url, model=MODEL, limits=QueueLimits(max_jobs=1)) as client:
        waiting = asyncio.create_task(client.embed(["no room"]))
        while not await redis.exists(KEYS.waiting):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await end_tasks(waiting)
    await redis.set(KEYS.staged("left"), b"by a client that died", ex=STAGED_S)


async def test_every_key_is_listed_and_ends(redis: Redis, server: EmbeddedServer) -> None:
    """At every moment; and each key that there is was seen."""
    async with watched(redis) as seen:
        await give_up_in_every_way(server.url, redis)
        with announced(server.url, KEYS, "starting"):
            async with worker(server.url, vector_cache="redis", vector_cache_mb=1):
                await asyncio.gather(*(ask_in_every_way(server.url, number) for number in range(4)))
                await asyncio.sleep(0.2)
        async with Client(server.url, model=MODEL) as client:
            await client.submit(["nobody comes"])
    channels = {name for name, kind in listed().items() if kind == "channel"}
    assert listed().keys() - channels - seen <= {KEYS.old_vectors}
