"""The rights that each role needs in Redis: which commands, on which keys and channels of a prefix.

The tables say what the code uses, no more and no less; tests compare them with what a server receives.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

from producer.contract import DEFAULT_PREFIX, Keys
from producer.errors import InvalidOption
from producer.queue import scripts
from producer.queue.scripts import Script


class AclRole(StrEnum):
    """What a user of Redis does there."""

    PRODUCER = "producer"  #: enqueues jobs, reads their results, cancels them
    WORKER = "worker"  #: runs jobs, and tells of itself
    OPERATOR = "operator"  #: looks at queues, pauses and purges them, handles dead letters


class AclServer(StrEnum):
    """The kinds of servers, as far as their ACLs differ."""

    REDIS_6 = "6"  #: Redis 6.2: a right to a key is a right to read and to write it
    REDIS_7 = "7"
    REDIS_8 = "8"
    VALKEY = "valkey"  #: 7.2 and later


Access: TypeAlias = Literal["R", "W", "RW", ""]

_SCRIPTS: Mapping[AclRole, Sequence[Script]] = {
    AclRole.PRODUCER: (
        *(scripts.ENQUEUE, scripts.ASK_FOR_ROOM, scripts.AWAIT, scripts.CONSUME),
        *(scripts.CANCEL, scripts.WITHDRAW),
    ),
    AclRole.WORKER: (
        *(scripts.CLAIM, scripts.RENEW, scripts.MARK, scripts.RELEASE, scripts.RETURN_STRAYS),
        *(scripts.FINISH, scripts.FINISH_WITH_DEAD_LETTER, scripts.BURY),
        *(scripts.HAND_BACK, scripts.RECONCILE, scripts.STORE_VECTORS),
    ),
    AclRole.OPERATOR: (
        *(scripts.CANCEL, scripts.RESUME),
        *(scripts.REQUEUE_DEAD_LETTER, scripts.DROP_DEAD_LETTER),
    ),
}

# Commands outside scripts; PUBLISH and what else the scripts call is read from them.
_CONNECTION = "select ping"  # AUTH is open to everybody
_COMMANDS: Mapping[AclRole, str] = {
    AclRole.PRODUCER: "eval subscribe zscan time set get unlink exists pttl zrange zcount",
    AclRole.WORKER: "eval subscribe time multi exec set mget getrange unlink hget hmget hgetall pttl pexpire "
    "zadd zrem zcard zcount zrange zrangebyscore zremrangebyscore",
    AclRole.OPERATOR: "eval subscribe zscan time multi exec scan set getrange mget hget hgetall hexists pttl "
    "zcard zcount zrange zrevrange zrangebyscore",
}

# Keys by their name in `Keys`, and what a producer, a worker and an operator do with them.
_KEYS: Mapping[str, tuple[Access, Access, Access]] = {
    "root": ("RW", "RW", "RW"),  # the key that each script is given; no key has this name
    "pending": ("RW", "RW", "RW"),
    "leases": ("RW", "RW", "RW"),
    "job": ("RW", "RW", "RW"),
    "request": ("W", "RW", "W"),
    "result": ("RW", "W", "W"),
    "staged": ("RW", "RW", ""),
    "totals": ("RW", "RW", "RW"),
    "workers": ("R", "RW", "R"),
    "worker": ("", "RW", "R"),
    "starting": ("R", "W", ""),
    "paused": ("R", "R", "RW"),
    "dead_letters": ("W", "RW", "RW"),
    "dead_letter": ("RW", "RW", "RW"),
    "dead_request": ("W", "W", "RW"),
    "answers": ("RW", "RW", "RW"),
    "askers": ("RW", "W", "W"),
    "digests": ("RW", "W", "W"),
    "held": ("W", "RW", "W"),
    "idle": ("RW", "RW", "RW"),
    "waiting": ("RW", "RW", "RW"),
    "outage": ("", "W", ""),
}
_VECTOR_CACHE = ("vectors", "vectors-old")
_SHARDED = ("spublish", "ssubscribe")  # instead of PUBLISH and SUBSCRIBE in a cluster that has them
_CHANNELS = ("notifications", "wakeup")  # one each of a client and of a worker
_CALLED = re.compile(r"redis\.p?call\('(\w+)'")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What roles need under a prefix: commands, and patterns of keys and channels as ACLs match them."""

    commands: tuple[str, ...]
    keys: Mapping[str, Access]
    channels: tuple[str, ...]

    def rule(self, server: AclServer) -> list[str]:
        """The modifiers of ACL SETUSER that give a user these rights and no others; passwords stay."""
        if server is AclServer.REDIS_6:
            cleared = ["on", "resetkeys", "resetchannels", "-@all"]
            keys = [f"~{pattern}" for pattern in self.keys]
        else:
            cleared = ["on", "clearselectors", "resetkeys", "resetchannels", "-@all"]
            keys = [f"%{access}~{pattern}" for pattern, access in self.keys.items()]
        channels = [f"&{pattern}" for pattern in self.channels]
        sharded = () if server is AclServer.REDIS_6 else _SHARDED
        return [*cleared, *(f"+{name}" for name in (*self.commands, *sharded)), *keys, *channels]


def rights(
    roles: Collection[AclRole | str], *, prefix: str = DEFAULT_PREFIX, may_scan: bool = True
) -> Rights:
    """What these roles need together; without `may_scan` none of them sees the names of others' keys.

    Raises InvalidOption for a prefix that no pattern can hold.
    """
    if not prefix or any(one.isspace() or not one.isprintable() for one in prefix):
        raise InvalidOption(
            f"the prefix {prefix!r:.80} cannot stand in an ACL rule; choose one without spaces"
        )
    chosen = [AclRole(role) for role in AclRole if role in {*roles}]
    commands = {name for role in chosen for name in _direct_commands(role) | script_commands(role)}
    if not may_scan:
        commands.discard("scan")
    keys = Keys("*", re.sub(r"([\\*?\[\]])", r"\\\1", prefix))
    return Rights(
        commands=tuple(sorted(commands)),
        keys=_key_rights(chosen, keys),
        channels=tuple(_pattern(keys, name) for name in _CHANNELS),
    )


def script_commands(role: AclRole) -> set[str]:
    """The commands that the scripts of a role may call."""
    return {name.lower() for script in _SCRIPTS[role] for name in _CALLED.findall(script.source)}


def _direct_commands(role: AclRole) -> set[str]:
    return {*_CONNECTION.split(), *_COMMANDS[role].split()}


def _key_rights(roles: Sequence[AclRole], keys: Keys) -> dict[str, Access]:
    """The patterns of all keys that the roles use, each with what they do with it."""
    found: dict[str, Access] = {}
    for name, column in _KEYS.items():
        given = "".join(access for role, access in zip(AclRole, column, strict=True) if role in roles)
        if given:
            found[_pattern(keys, name)] = "RW" if {*given} == {*"RW"} else "R" if "R" in given else "W"
    if AclRole.WORKER in roles:
        found |= {keys.root + name: "RW" for name in _VECTOR_CACHE}
    return found


def _pattern(keys: Keys, name: str) -> str:
    """The pattern of a key or channel, or of all of a kind."""
    found: str | Callable[[str], str] = getattr(keys, name)
    return found if isinstance(found, str) else found("*")
