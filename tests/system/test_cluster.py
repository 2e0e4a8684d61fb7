"""Redis Cluster: a queue lives on one shard, and whoever knows any node of the cluster finds it."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.crc import key_slot
from redis.exceptions import ResponseError
from support.redis_hashes import hget
from support.redis_server import RedisServer, version
from support.serving import MODEL, producer, worker
from support.text_bytes import text_bytes_now

from producer import Client
from producer.contract import Keys, queue_name
from producer.transport.connect import connect

pytestmark = [pytest.mark.every_server, pytest.mark.timeout(240)]

KEYS = Keys(queue_name(MODEL))
SLOT = key_slot(KEYS.pending.encode())
RANGES = [(0, 5460), (5461, 10922), (10923, 16383)]
READY_S = 60.0


class Cluster:
    """Three nodes, each with a third of the slots."""

    def __init__(self, program: str, directory: Path, on_exit: ExitStack) -> None:
        options: dict[str, Any] = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
        nodes = [RedisServer(program, directory / f"node{n}", **options) for n in range(3)]
        self.nodes = [on_exit.enter_context(node) for node in nodes]
        for node, (first, last) in zip(self.nodes, RANGES, strict=True):
            self.ask(node, "CLUSTER", "ADDSLOTS", *range(first, last + 1))
            self.ask(node, "CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        deadline = time.monotonic() + READY_S
        while not all(self._is_ready(node) for node in self.nodes):
            assert time.monotonic() < deadline, self.nodes[0].log.read_text()[-3000:]
            time.sleep(0.1)

    def ask(self, node: RedisServer, *command: str | int | bytes) -> Any:
        with node.client() as redis:
            return redis.execute_command(*command)

    def owner(self) -> RedisServer:
        """The node that holds the queue, as it says itself."""
        return next(node for node in self.nodes if self._holds(node))

    def others(self) -> list[RedisServer]:
        owner = self.owner()
        return [node for node in self.nodes if node is not owner]

    def _holds(self, node: RedisServer) -> bool:
        me = self.ask(node, "CLUSTER", "MYID")
        for first, last, primary, *_ in self.ask(node, "CLUSTER", "SLOTS"):
            if first <= SLOT <= last:
                return bool(primary[2] == me)
        return False

    def _is_ready(self, node: RedisServer) -> bool:
        with node.client() as redis:
            state = redis.execute_command("CLUSTER INFO")
        return bool(state["cluster_state"] == "ok" and state["cluster_known_nodes"] == "3")


@pytest.fixture(scope="module")
def cluster(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with ExitStack() as on_exit:
        yield Cluster(program, tmp_path_factory.mktemp("cluster"), on_exit)


@pytest.mark.slow
async def test_any_node_leads_to_the_queue(cluster: Cluster) -> None:
    """Producer, worker and client are given a node that does not hold it."""
    url = cluster.others()[0].url
    async with Client(url, model=MODEL) as client, worker(url):
        replies = await asyncio.gather(*(client.embed([f"text {n}"], timeout_s=60) for n in range(50)))
        assert all(reply.ok for reply in replies)
        while await client.num_workers() != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    async with connect(url) as redis:
        assert await hget(redis, KEYS.totals, "done") == b"50"
    with cluster.owner().client() as redis:
        assert text_bytes_now(redis, KEYS) == 0
        assert all(KEYS.root in key for key in redis.keys("*"))


@pytest.mark.slow
async def test_an_answer_is_told_on_the_node_of_its_queue(cluster: Cluster, program: str) -> None:
    """Sharded messages where the server has them; no other node passes them on."""
    if version(program) < (7,):
        pytest.skip("this server has none")
    async with Client(cluster.others()[0].url, model=MODEL) as client, worker(cluster.owner().url):
        assert (await client.embed(["a text"], timeout_s=20)).ok
        sharded = [bool(cluster.ask(node, "PUBSUB", "SHARDCHANNELS")) for node in cluster.nodes]
        assert sharded == [node is cluster.owner() for node in cluster.nodes]


async def test_several_nodes_may_be_named(cluster: Cluster) -> None:
    """The first of them need not be there."""
    hosts = ",".join(["127.0.0.1:1", *(f"127.0.0.1:{node.port}" for node in cluster.others())])
    url = f"redis+cluster://{hosts}"
    async with Client(url, model=MODEL) as client, worker(url):
        assert (await client.embed(["a text"], timeout_s=60)).ok


@pytest.mark.slow
async def test_the_queue_moves_while_jobs_flow(cluster: Cluster) -> None:
    """To another node, as Valkey 9 moves a slot: connections follow, every job is answered, none is lost."""
    source, target = cluster.owner(), cluster.others()[0]
    url = cluster.others()[1].url
    async with Client(url, model=MODEL) as client, worker(url, lease_s=0.6, max_tries=1):
        jobs = asyncio.gather(*(client.embed([f"moved {n}"], timeout_s=90) for n in range(500)))
        await asyncio.sleep(0.3)
        node = cluster.ask(target, "CLUSTER", "MYID")
        try:
            cluster.ask(source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", SLOT, SLOT, "NODE", node)
        except Exception as error:  # a server without it
            pytest.skip(str(error))
        while cluster.owner() is not target:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        assert (await client.embed(["after"], timeout_s=90)).ok
        assert all(reply.ok for reply in await jobs)
    with target.client() as redis:
        assert text_bytes_now(redis, KEYS) == 0
        assert redis.hget(KEYS.totals, "failed") is None


def follows(cluster: Cluster, node: RedisServer) -> bool:
    """True if it is a replica that has what its primary has."""
    role = cluster.ask(node, "ROLE")
    return bool(role[0] == "slave" and role[3] == "connected")


def is_known(cluster: Cluster, replica: RedisServer) -> bool:
    """True if every node has it among the replicas of a shard."""
    return all(
        any(one[1] == replica.port for shard in cluster.ask(node, "CLUSTER", "SLOTS") for one in shard[3:])
        for node in cluster.nodes
    )


@pytest.mark.slow
async def test_a_shard_that_fails_over_is_found(cluster: Cluster, program: str, tmp_path: Path) -> None:
    """Its primary is killed; the nodes that were named send us to the replica that takes its place."""
    owner, url = cluster.owner(), cluster.others()[0].url
    options: dict[str, Any] = {"cluster-enabled": "yes", "cluster-node-timeout": "2000"}
    with RedisServer(program, tmp_path / "replica", **options) as replica:
        cluster.ask(replica, "CLUSTER", "MEET", "127.0.0.1", owner.port)
        shard = cluster.ask(owner, "CLUSTER", "MYID")
        async with asyncio.timeout(READY_S):
            # Once, since on Redis each more begins the copying anew.
            while cluster.ask(replica, "ROLE")[0] != "slave":
                with suppress(ResponseError):  # it does not know the node yet
                    cluster.ask(replica, "CLUSTER", "REPLICATE", shard)
                await asyncio.sleep(0.1)
            # The others vote for it only once they have heard of it.
            while not (follows(cluster, replica) and is_known(cluster, replica)):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        async with Client(url, model=MODEL) as client, worker(url, max_tries=1):
            assert (await client.embed(["before"], timeout_s=60)).ok
            owner.kill()
            assert (await client.embed(["after"], timeout_s=90)).ok
        assert cluster.ask(replica, "ROLE")[0] == "master"
        owner.start()
        async with asyncio.timeout(READY_S):
            while not follows(cluster, owner):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            # Asked again, since the others may not vote so soon after the last one.
            while cluster.ask(owner, "ROLE")[0] != "master":
                with suppress(ResponseError):  # it has just become the primary
                    cluster.ask(owner, "CLUSTER", "FAILOVER")
                await asyncio.sleep(2.0)


@pytest.mark.slow
async def test_the_status_is_that_of_one_shard(cluster: Cluster) -> None:
    """SCAN tells the keys of the node that is asked."""
    async with Client(cluster.nodes[0].url, model=MODEL) as client:
        await client.submit(["a text"])
    for node in cluster.nodes:
        status, output, errors = await producer("status", "--json", redis_url=node.url)
        assert (status, errors) == (0, "")
        assert (queue_name(MODEL) in output) is (node is cluster.owner())
    with Redis(port=cluster.owner().port) as redis:
        redis.flushall()
