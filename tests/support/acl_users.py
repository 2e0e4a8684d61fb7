"""Users of a server with the rights of a role."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from redis.asyncio import Redis

from producer.queue.rights import AclRole, AclServer, rights


async def acl_server(admin: Redis) -> AclServer:
    """The kind of the server, as `producer acl --server` names it."""
    facts = await admin.info("server")
    if facts.get("server_name") == "valkey":
        return AclServer.VALKEY
    return AclServer(facts["redis_version"].partition(".")[0])


@asynccontextmanager
async def acl_user(
    admin: Redis, url: str, *roles: AclRole, prefix: str, may_scan: bool = True, name: str = ""
) -> AsyncIterator[str]:
    """The server's address for a user with the generated rule of these roles."""
    name = name or "-".join([prefix, *roles])
    rule = rights(roles, prefix=prefix, may_scan=may_scan).rule(await acl_server(admin))
    await admin.execute_command("ACL", "SETUSER", name, *rule)
    await admin.execute_command("ACL", "SETUSER", name, ">secret")
    yield f"unix://{name}:secret@{urlsplit(url).path}"
    await admin.execute_command("ACL", "DELUSER", name)
