"""The table of rights is what the code uses, no more and no less: a server tells what it received."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from support import roles
from support.redis_server import RedisServer, version
from support.serving import worker

from producer.contract import Keys
from producer.queue.rights import AclRole, rights, script_commands
from producer.transport.connect import connect

pytestmark = pytest.mark.every_server

PREFIX = "tenant"
WRITES = {"insert", "update", "delete"}
# Names of keys by what stands behind the root; ids may have anything.
KINDS = [
    getattr(Keys("", ""), name)("").removeprefix(":{}:")
    for name in ("job", "request", "result", "staged", "worker", "dead_letter", "dead_request", "held")
]

KEYLESS = {"AUTH", "HELLO", "SELECT", "PING", "TIME", "MULTI", "EXEC", "SCAN", "SUBSCRIBE", "PUBLISH"}

Call = tuple[str, ...]


class Monitor:
    """What a server received through its unix socket; connections over TCP are others'."""

    def __init__(self) -> None:
        self.direct: list[Call] = []
        self.of_scripts: list[Call] = []

    @asynccontextmanager
    async def watching(self, port: int) -> AsyncIterator[None]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 26)
        writer.write(b"MONITOR\r\n")
        await reader.readline()
        task = asyncio.create_task(self._read(reader))
        try:
            yield
        finally:
            writer.write(b"QUIT\r\n")  # its reply comes after all that was before
            await task
            writer.close()
            await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        is_ours = False
        while (line := await reader.readline()) and line != b"+OK\r\n":
            found = re.fullmatch(rb"\+[\d.]+ \[\d+ (lua|unix|[^\]:]*)[^\]]*\] (.*)\r\n", line)
            assert found is not None, line
            words = tuple(_unescaped(word) for word in re.findall(rb'"((?:[^"\\]|\\.)*)"', found[2]))
            # A script's commands come right after it.
            is_ours = is_ours if found[1] == b"lua" else found[1] == b"unix"
            if is_ours:
                (self.of_scripts if found[1] == b"lua" else self.direct).append(words)


def _unescaped(word: bytes) -> str:
    return word.decode("unicode_escape")


@pytest.mark.parametrize("role", AclRole)
async def test_the_table_is_what_the_code_uses(
    program: str, role: AclRole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command and every key of the role is used, and nothing else is."""
    if version(program) < (7,):
        pytest.skip("Redis 6.2 does not tell how a command uses its keys")
    path, monitor = tmp_path / "s", Monitor()
    with RedisServer(program, tmp_path / "redis", unixsocket=str(path)) as server:
        async with connect(server.url) as admin:
            # With all rights, so that what the table lacks is told at once; but SCAN is for operators.
            scan = "+scan" if role is AclRole.OPERATOR else "-scan"
            await admin.execute_command("ACL", "SETUSER", "any", "on", "nopass", "~*", "&*", "+@all", scan)
            async with monitor.watching(server.port):
                await _do_it_all(role, f"unix://any:any@{path}", server.url, admin, monkeypatch)
            used = await _key_rights(admin, [*monitor.direct, *monitor.of_scripts])
    table = rights([role], prefix=PREFIX)
    assert used == dict(table.keys)
    scripts = {words[0].lower() for words in monitor.of_scripts}
    direct = {words[0].lower() for words in monitor.direct} - {"auth", "hello"}  # open to everybody
    expected = {*table.commands} - {"select", "ping"}  # for databases but 0, and for connections long idle
    assert direct | scripts <= {*table.commands}
    assert expected - direct - scripts <= script_commands(role)  # in branches that nobody took here


async def _do_it_all(
    role: AclRole, url: str, others_url: str, admin: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    if role is AclRole.PRODUCER:
        async with worker(others_url, prefix=PREFIX):
            await roles.produce(url, admin, PREFIX)
    elif role is AclRole.WORKER:
        await roles.work(url, admin, PREFIX, monkeypatch)
    else:
        await roles.operate(url, admin, PREFIX)


async def _key_rights(admin: Redis, calls: Iterable[Call]) -> dict[str, str]:
    """What ACLs ask of these calls: patterns of keys, each with R for reading and W for writing it."""
    asked: Any = admin
    asked.set_response_callback("COMMAND", lambda reply, **_: reply)
    found: dict[str, set[str]] = {}
    for words in {_without_ids(words) for words in calls}:
        if words[0].upper() in KEYLESS:
            continue
        for key, flags in await asked.execute_command("COMMAND", "GETKEYSANDFLAGS", *words):
            told = {flag.decode() for flag in flags}
            letters = ("R" if "access" in told else "") + ("W" if told & WRITES else "")
            found.setdefault(key.decode(), set()).update(letters)
    return {key: "".join(sorted(letters)) for key, letters in found.items()}


def _without_ids(words: Call) -> Call:
    """The call with patterns in place of its keys, and without its values: few are left to ask about."""
    given = words[:4] if words[0].upper() == "EVAL" else words
    return tuple(map(_pattern, given))


def _pattern(word: str) -> str:
    if not word.startswith(f"{PREFIX}:{{"):
        return word if word.isalpha() and len(word) < 20 else "1"
    _, _, name = word.partition("}:")
    kind = next((kind for kind in KINDS if name.startswith(kind)), None)
    return f"{PREFIX}:{{*}}:{name if kind is None else kind + '*'}"
