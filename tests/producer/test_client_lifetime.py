"""Where a client may be used: closed, pickled, forked, in threads, beside an event loop."""

import asyncio
import gc
import multiprocessing
import os
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import pytest
from redis import Redis
from support.serving import MODEL
from support.worker_process import process

from producer import Client, QueueLimits, SyncClient
from producer.embedded.services import EmbeddedServer
from producer.errors import ClientClosed, QueueUnavailable, SettingsError

pytestmark = pytest.mark.every_server


@pytest.fixture(scope="module")
def url(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with a worker, in a process of its own: the tests block, and fork."""
    with process(tmp_path_factory.mktemp("worker") / "log", server.url):
        yield server.url


async def test_a_client_that_is_not_open_says_so(url: str) -> None:
    """Before it is entered and after it is left; entered again, it works again."""
    client = Client(url, model=MODEL)
    for call in (lambda: client.embed(["a"]), lambda: client.submit(["a"]), client.num_workers):
        with pytest.raises(ClientClosed, match="is not open; use it within `async with"):
            await call()
    for _ in range(2):
        async with client:
            assert (await client.embed(["a"])).ok
            with pytest.raises(ClientClosed, match="open already"):
                await client.__aenter__()
        with pytest.raises(ClientClosed):
            await client.result("job")
        with pytest.raises(ClientClosed):
            await anext(client.embed_many([["a"]]))


async def test_closing_ends_what_is_under_way(server: EmbeddedServer) -> None:
    """Whoever waits for an answer is told, instead of waiting for ever."""
    async with Client(server.url, model="no/such") as client:
        waiting = asyncio.create_task(client.embed(["a"]))
        await asyncio.sleep(0.1)
    with pytest.raises(ClientClosed):
        await asyncio.wait_for(waiting, 10)


def test_a_client_belongs_to_the_loop_it_was_entered_in(url: str) -> None:
    """In another it says so at once; it would wait for what never comes there."""
    client = Client(url, model=MODEL)
    with asyncio.Runner() as first:
        first.run(client.__aenter__())
        with pytest.raises(ClientClosed, match=r"another event loop or process.*SyncClient"):
            in_thread(lambda: asyncio.run(client.embed(["a"])))
        first.run(client.__aexit__(None, None, None))


def in_thread(call: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()


def in_fork(call: Callable[[], object]) -> str:
    """What the call returns in a forked process, as text, or the name of what it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = str(call())
        except BaseException as error:
            told = type(error).__name__
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told


def test_a_blocking_client_works_in_a_forked_process(url: str) -> None:
    """It connects anew there, and the parent's goes on, as under a server that forks its workers."""
    with SyncClient(url, model=MODEL) as client:
        expected = client.embed(["a b"]).vectors.tolist()
        for _ in range(2):
            assert in_fork(lambda: client.embed(["a b"]).vectors.tolist() == expected) == "True"
            assert client.embed(["a b"]).vectors.tolist() == expected
        assert in_fork(lambda: in_fork(lambda: client.embed(["a b"]).vectors.tolist() == expected)) == "True"


def test_a_forked_process_that_closes_its_client_leaves_the_parents_open(url: str) -> None:
    """Also when it leaves the parent's `with`."""

    def leave() -> bool:
        with client:
            client.embed(["b"])
        client.close()
        gc.collect()
        return client.embed(["b"]).ok

    with SyncClient(url, model=MODEL) as client:
        assert client.embed(["a"]).ok
        assert in_fork(leave) == "ClientClosed"
        assert client.embed(["a"]).ok


def test_an_iteration_does_not_go_on_in_a_forked_process(url: str) -> None:
    """Its jobs are the parent's, who reads on."""
    with SyncClient(url, model=MODEL) as client:
        replies = client.embed_many([[f"text {n}"] for n in range(30)], max_in_flight=4)
        next(replies)
        assert in_fork(lambda: next(replies)) == "ClientClosed"
        assert sum(reply.ok for reply in replies) == 29


async def test_an_open_client_is_refused_in_a_forked_process(url: str) -> None:
    """It says so at once; entered there, it is open there."""
    async with Client(url, model=MODEL) as client:

        async def use() -> bool:
            return (await client.embed(["a"])).ok

        async def enter_and_use() -> bool:
            async with client:
                return (await client.embed(["a"])).ok

        # As a forked process has no running loop, so that it may run one; here it is in the way.
        assert await asyncio.to_thread(in_fork, lambda: asyncio.run(use())) == "ClientClosed"
        assert await asyncio.to_thread(in_fork, lambda: asyncio.run(enter_and_use())) == "True"
        assert (await client.embed(["a"])).ok


def test_clients_pickle_as_their_options(url: str) -> None:
    """Open or not; what is unpickled is not open."""
    client = SyncClient(url, model=MODEL, run="mine", wait_for_worker_s=7)
    closed = pickle.dumps(client)
    with client:
        client.embed(["a"])
        assert pickle.dumps(client) == closed
    with pickle.loads(closed) as copy:
        assert copy.embed(["a"]).ok
    original = Client(url, model=MODEL, run="mine", limits=QueueLimits(max_jobs=3))
    assert pickle.loads(pickle.dumps(original)).__getstate__() == original.__getstate__()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_takes_a_client(url: str, method: str) -> None:
    """As its argument, as `datasets.map` and data loaders pass it."""
    with (
        SyncClient(url, model=MODEL) as client,
        ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool,
    ):
        assert client.embed(["0"]).ok
        assert all(pool.map(embed_one, [client] * 4, range(4)))


def embed_one(client: SyncClient, number: int) -> bool:
    return client.embed([str(number)]).ok


def test_a_blocking_client_connects_when_it_is_used(tmp_path: Path, url: str) -> None:
    """Making one needs no server; what is wrong with its options is said at once."""
    client = SyncClient(f"unix://{tmp_path}/none.sock", model=MODEL, outage_s=0.1)
    with pytest.raises(QueueUnavailable):
        client.embed(["a"])
    with pytest.raises(SettingsError):
        SyncClient("localhost", model=MODEL)
    lazy = SyncClient(url, model=MODEL)
    assert lazy.embed(["a"]).ok
    lazy.close()


def test_a_closed_blocking_client_says_so(url: str) -> None:
    """Closed twice or never used; entered again, it works again."""
    client = SyncClient(url, model=MODEL)
    with client:
        assert client.embed(["a"]).ok
        replies = client.embed_many([["a"], ["b"], ["c"]], max_in_flight=1)
        next(replies)
    client.close()
    for call in (lambda: client.embed(["a"]), client.num_workers, lambda: next(replies)):
        with pytest.raises(ClientClosed):
            call()
    with client:
        assert client.embed(["a"]).ok


def test_threads_share_a_blocking_client(url: str) -> None:
    """Also the first call, which connects, and closing it ends the calls of all."""
    client = SyncClient(url, model=MODEL)
    with ThreadPoolExecutor(8) as pool:
        assert all(reply.ok for reply in pool.map(lambda n: client.embed([f"{n}"]), range(32)))
        waiting = [pool.submit(client.result, client.submit([f"{n}"], job=f"j{n}").job) for n in range(4)]
        assert all(one.result().ok for one in waiting)
    client.close()
    nobody = SyncClient(url, model="no/such")
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(nobody.embed, [f"{n}"]) for n in range(4)]
        nobody.num_workers()
        nobody.close()
        for one in waiting:
            with pytest.raises(ClientClosed):
                one.result(20)


async def test_a_blocking_client_works_beside_a_running_loop(url: str) -> None:
    """As in a notebook, whose cells run in one."""
    with SyncClient(url, model=MODEL) as client:
        assert client.embed(["a"]).ok
        assert len(list(client.embed_many([["a"], ["b"]]))) == 2


def test_a_generator_that_calls_the_client_that_reads_it_is_told(url: str) -> None:
    """It would wait for itself."""
    with SyncClient(url, model=MODEL) as client:
        with pytest.raises(ClientClosed, match="would wait for itself"):
            list(client.embed_many([f"{client.num_workers()}"] for _ in range(2)))
        assert client.embed(["a"]).ok


@pytest.mark.parametrize("many", [False, True])
def test_ctrl_c_ends_a_blocking_call_and_its_jobs(server: EmbeddedServer, many: bool) -> None:
    """The client is fine afterwards."""
    with SyncClient(server.url, model="no/such", keep_result_s=3) as client:
        interrupt = Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        interrupt.start()
        with pytest.raises(KeyboardInterrupt):
            next(client.embed_many([["a"], ["b"], ["c"]])) if many else client.embed(["a"])
        interrupt.join()
        assert client.num_workers() == 0
        for text in "abc":
            assert not client.submit([text]).joined
            client.cancel(client.submit([text]).job)


def test_a_client_that_is_forgotten_closes(url: str) -> None:
    """As the copy that a process unpickles for each task: no thread and no connection is left of it."""
    before = names_of_threads()
    with connections(url) as count:
        for _ in range(3):
            assert pickle.loads(pickle.dumps(SyncClient(url, model=MODEL))).embed(["a"]).ok
        gc.collect()
        for _ in range(500):
            if count() == 0 and names_of_threads() == before:
                break
            time.sleep(0.01)
        assert (count(), names_of_threads()) == (0, before)


def names_of_threads() -> list[str]:
    return sorted(thread.name for thread in threading.enumerate())


@contextmanager
def connections(url: str) -> Iterator[Callable[[], int]]:
    """Counts the server's connections, beyond those that there are at first."""
    with Redis.from_url(url) as redis:
        at_first = len(redis.client_list())
        yield lambda: len(redis.client_list()) - at_first
