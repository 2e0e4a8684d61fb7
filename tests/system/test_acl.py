"""A Redis user with the rule that `producer acl` prints can do everything of its role, and nothing else."""

import shlex
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError
from support import roles
from support.acl_users import acl_server, acl_user
from support.serving import MODEL, worker

from producer import Client
from producer.cli.main import main
from producer.contract import Keys, queue_name
from producer.embedded.services import EmbeddedServer
from producer.errors import InvalidOption, QueueError, QueueUnavailable
from producer.queue.rights import AclRole, AclServer, rights
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget

pytestmark = pytest.mark.every_server

PREFIX = "tenant-a"
KEYS, OTHERS = (Keys(queue_name(MODEL), prefix) for prefix in (PREFIX, "tenant-b"))
REFUSED = r"permissions|ACL failure|user executing the script can't"


async def denied(admin: Redis) -> set[str]:
    """What the server has denied to anybody."""
    entries = await admin.acl_log()
    return {f"{entry['reason']} {entry['object']}" for entry in entries}


@pytest.fixture
async def admin(redis: Redis) -> AsyncIterator[Redis]:
    """The server's owner, with an empty log of denials."""
    await redis.acl_log_reset()
    yield redis
    await redis.acl_log_reset()


async def test_a_producer_can_do_everything_that_producers_do(admin: Redis, server: EmbeddedServer) -> None:
    """But for naming the models that others serve, which needs the names of all keys."""
    async with (
        acl_user(admin, server.url, AclRole.PRODUCER, prefix=PREFIX) as mine,
        acl_user(admin, server.url, AclRole.WORKER, prefix=PREFIX) as theirs,
        worker(theirs, prefix=PREFIX, lease_s=0.6),
    ):
        await roles.produce(mine, admin, PREFIX)
        assert await denied(admin) <= {"command scan"}


async def test_a_worker_can_do_everything_that_workers_do(
    admin: Redis, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what a supervisor does for a dead one, and the vector cache."""
    async with acl_user(admin, server.url, AclRole.WORKER, prefix=PREFIX) as url:
        await roles.work(url, admin, PREFIX, monkeypatch)
        assert await denied(admin) == set()


@pytest.mark.parametrize("may_scan", [True, False])
async def test_an_operator_can_do_everything_that_operators_do(
    admin: Redis, server: EmbeddedServer, may_scan: bool
) -> None:
    """Without the names of keys, too, if it names the model."""
    async with acl_user(admin, server.url, AclRole.OPERATOR, prefix=PREFIX, may_scan=may_scan) as url:
        await roles.operate(url, admin, PREFIX, may_scan=may_scan)
        assert await denied(admin) == set()


async def test_a_user_may_have_several_roles(admin: Redis, server: EmbeddedServer) -> None:
    """One that does it all, as `compose.yaml` would use it."""
    async with acl_user(admin, server.url, *AclRole, prefix=PREFIX) as url:
        async with worker(url, prefix=PREFIX):
            await roles.produce(url, admin, PREFIX)
        await roles.operate(url, admin, PREFIX)
        assert await denied(admin) == set()


def commands(keys: Keys) -> list[tuple[str, ...]]:
    """Every way to read or write the keys and channels of a prefix, and some that touch the whole server."""
    strings = [keys.request("x"), keys.result("x"), keys.staged("x"), keys.dead_request("x")]
    hashes = [keys.job("x"), keys.dead_letter("x"), keys.totals, keys.root + "vectors"]
    zsets = [keys.pending, keys.leases, keys.workers, keys.starting, keys.idle, keys.waiting, keys.answers]
    zsets.append(keys.dead_letters)
    return [
        *((name, key) for key in strings for name in ("GET", "UNLINK", "PERSIST", "EXISTS", "PTTL")),
        *(("SET", key, "forged") for key in [*strings, keys.paused, keys.worker("x")]),
        *(("HGETALL", key) for key in hashes),
        *(("HSET", key, "token", "forged") for key in hashes),
        *(("ZRANGE", key, "0", "-1") for key in zsets),
        *(("ZADD", key, "1", "x") for key in zsets),
        ("RENAME", keys.request("x"), KEYS.staged("x")),
        ("RENAME", KEYS.staged("x"), keys.result("x")),
        ("MGET", KEYS.request("x"), keys.request("x")),
        ("EVAL", "return 1", "1", keys.root),
        ("EVAL", "return redis.call('GET', ARGV[1])", "1", KEYS.root, keys.request("x")),
        ("EVAL", "return redis.call('SET', ARGV[1], 'forged')", "1", KEYS.root, keys.result("x")),
        ("EVAL", "return redis.call('FLUSHALL')", "1", KEYS.root),
        ("SUBSCRIBE", keys.notifications("x")),
        ("PSUBSCRIBE", "*"),
        ("PUBLISH", keys.notifications("x"), "x"),
        ("PUBLISH", keys.wakeup("x"), "-x"),
        *(("KEYS", "*"), ("RANDOMKEY",), ("DBSIZE",), ("INFO",), ("FLUSHALL",), ("CONFIG", "GET", "*")),
        *(("ACL", "WHOAMI"), ("CLIENT", "LIST"), ("CLIENT", "KILL", "TYPE", "normal"), ("MONITOR",)),
        *(
            ("SHUTDOWN",),
            ("SCRIPT", "FLUSH"),
            ("EVALSHA", "0" * 40, "0"),
            ("COPY", "a", "b"),
        ),
    ]


@pytest.mark.parametrize("role", [[one] for one in AclRole] + [[*AclRole]], ids="-".join)
@pytest.mark.parametrize("prefix", ["tenant-b", "tenant", "tenant-a:b"])
async def test_what_another_prefix_holds_is_out_of_reach(
    admin: Redis, server: EmbeddedServer, role: list[AclRole], prefix: str
) -> None:
    """It can be neither read nor written, inside a script or outside; nor can its messages be.

    Whether its prefix begins like ours, or ours like it.
    """
    others = Keys(queue_name(MODEL), prefix)
    job = await roles.enqueue(admin, others, "a secret")
    await admin.rename(others.request(job), others.request("x"))
    before = {key: await admin.dump(key) for key in await admin.keys()}
    async with acl_user(admin, server.url, *role, prefix=PREFIX, may_scan=False) as url:
        for command in commands(others):
            # Each its own connection: some would change what the next may do.
            async with connect(url, outage_budget=OutageBudget(0)) as user:
                with pytest.raises(ResponseError, match=REFUSED):
                    await user.execute_command(*command)
        async with connect(url) as user:
            with pytest.raises(NoPermissionError):
                await user.scan()
    assert {key: await admin.dump(key) for key in await admin.keys()} == before


async def test_only_an_operator_sees_names(admin: Redis, server: EmbeddedServer) -> None:
    """SCAN shows those of all keys of the database: their contents stay closed."""
    job = await roles.enqueue(admin, OTHERS, "a secret")
    async with acl_user(admin, server.url, AclRole.OPERATOR, prefix=PREFIX) as url, connect(url) as user:
        _, names = await user.scan(count=1000)
        assert OTHERS.request(job).encode() in names
        with pytest.raises(NoPermissionError):
            await user.get(OTHERS.request(job))


async def test_tenants_share_a_server_and_nothing_else(admin: Redis, server: EmbeddedServer) -> None:
    """Each with its prefix: the same model, the same texts, and two workers that never meet."""
    async with (
        acl_user(admin, server.url, *AclRole, prefix="tenant-a", may_scan=False) as one,
        acl_user(admin, server.url, *AclRole, prefix="tenant-b", may_scan=False) as two,
        Client(one, model=MODEL, prefix="tenant-a") as mine,
    ):
        job = (await mine.submit(["a secret"])).job
        async with worker(two, prefix="tenant-b"), Client(two, model=MODEL, prefix="tenant-b") as theirs:
            assert (await theirs.embed(["a secret"], timeout_s=10)).ok
            assert [one.job for one in await mine.jobs(state="pending")] == [job]
        with pytest.raises(QueueError, match=REFUSED):
            async with Client(two, model=MODEL, prefix="tenant-a") as spy:
                await spy.result(job)
        async with worker(one, prefix="tenant-a"):
            assert (await mine.result(job, timeout_s=10)).ok


async def test_roles_are_kept_apart_where_the_server_can(admin: Redis, server: EmbeddedServer) -> None:
    """From Redis 7 on a producer reads no pending texts, a worker no answers, neither pauses; on 6.2 they do.

    Under one prefix any of them can still forge an answer, which docs/explanation/trust.md says.
    """
    job = await roles.enqueue(admin, KEYS, "a secret")
    await admin.set(KEYS.result(job), b"an answer")
    kept_apart = await acl_server(admin) is not AclServer.REDIS_6
    reads = {AclRole.PRODUCER: ("GET", KEYS.request(job)), AclRole.WORKER: ("MGET", KEYS.result(job))}
    for role, read in reads.items():
        async with acl_user(admin, server.url, role, prefix=PREFIX) as url, connect(url) as user:
            for command in (read, ("SET", KEYS.paused, "1")):
                if kept_apart:
                    with pytest.raises(NoPermissionError):
                        await user.execute_command(*command)
                else:
                    assert await user.execute_command(*command)
            await user.execute_command("SET", KEYS.result(job), "forged")
            with pytest.raises(NoPermissionError):
                await user.scan()


async def test_nobody_needs_to_introduce_itself(admin: Redis, server: EmbeddedServer) -> None:
    """CLIENT SETINFO is refused to all these users, who never send it."""
    async with acl_user(admin, server.url, AclRole.PRODUCER, AclRole.WORKER, prefix=PREFIX) as url:
        async with worker(url, prefix=PREFIX), Client(url, model=MODEL, prefix=PREFIX) as client:
            assert (await client.embed(["a text"], timeout_s=10)).ok
        assert await denied(admin) == set()
        async with connect(url) as user:
            with pytest.raises(ResponseError):  # refused, or unknown before Redis 7.2
                await user.execute_command("CLIENT", "SETINFO", "LIB-NAME", "x")


async def test_the_command_prints_what_the_server_takes(admin: Redis, server: EmbeddedServer) -> None:
    """As a line for redis-cli and as JSON; a new user cannot log in before it has a password, which stays."""
    kind = await acl_server(admin)
    arguments = ["acl", "--role", "producer", "--server", kind.value, "--prefix", PREFIX]
    line = CliRunner().invoke(main, arguments).stdout
    command = shlex.split(line)
    assert command[:3] == ["ACL", "SETUSER", "tenant-a-producer"]
    assert command[3:] == rights([AclRole.PRODUCER], prefix=PREFIX).rule(kind)
    await admin.execute_command(*command)
    url = f"unix://tenant-a-producer:secret@{urlsplit(server.url).path}"
    with pytest.raises(QueueUnavailable, match="invalid username-password") as refused:
        async with Client(url.replace("secret", "hunter2"), model=MODEL, prefix=PREFIX):
            pass
    assert "hunter2" not in str(refused.value)
    await admin.execute_command("ACL", "SETUSER", "tenant-a-producer", ">secret")
    await admin.execute_command(*command)
    async with Client(url, model=MODEL, prefix=PREFIX) as client:
        assert not (await client.submit(["a text"])).joined
    await admin.execute_command("ACL", "DELUSER", "tenant-a-producer")


async def test_a_prefix_is_no_pattern(admin: Redis, server: EmbeddedServer) -> None:
    """What looks like one stands for itself; what no rule can hold is refused."""
    async with (
        acl_user(admin, server.url, AclRole.PRODUCER, prefix="a*[b]?", name="odd") as url,
        Client(url, model=MODEL, prefix="a*[b]?") as client,
    ):
        assert not (await client.submit(["a text"])).joined
        with pytest.raises(QueueError, match=REFUSED):
            async with Client(url, model=MODEL, prefix="axxb?") as other:
                await other.submit(["a text"])
    for wrong in ("", "a b", "a\n", "a{b", "a}"):
        with pytest.raises(InvalidOption, match=r"cannot stand in an ACL rule|has braces"):
            rights([AclRole.PRODUCER], prefix=wrong)
