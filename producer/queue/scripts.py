"""The Lua commands of the queue's state machine, loaded from `producer/queue/lua`.

Each command is atomic, uses the server's clock, and takes the root of the queue's keys as its only key. Its
file documents it; docs/reference/redis-keys.md lists the keys. The first write of each needs no memory: at
its memory limit, Redis refuses commands of a script only until the script has written.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias

_INCLUDE = re.compile(r'^--- @include "(\w+)"$', re.MULTILINE)
_HEADER = re.compile(r"\A--\[\[.*?\]\]\n", re.DOTALL)

Argument: TypeAlias = str | bytes


@dataclass(frozen=True, slots=True)
class Script:
    """One command, by the name of its file; the file is read at the first call."""

    name: str

    @property
    def source(self) -> str:
        """The command with everything it includes, without comments and indentation."""
        return _source(self.name)

    def eval_args(self, root: str, *arguments: Argument) -> tuple[Any, ...]:
        """The arguments for redis-py's `eval`: the source, and the root of the queue's keys as only key."""
        return (self.source, 1, root, *arguments)

    def command(self, root: str, *arguments: Argument) -> tuple[Argument, ...]:
        """The same as a command for an AutoPipeline."""
        # EVAL rather than EVALSHA: after a restart or failover each pipeline would come back with NOSCRIPT
        # errors and would have to be taken apart and sent again, all to save 1 to 3 KB per command.
        return ("EVAL", _encoded(self.name), "1", root, *arguments)


ENQUEUE = Script("enqueue")
ASK_FOR_ROOM = Script("ask_for_room")
AWAIT = Script("await")
CONSUME = Script("consume")
CANCEL = Script("cancel")
RESUME = Script("resume")
WITHDRAW = Script("withdraw")
REQUEUE_DEAD_LETTER = Script("requeue_dead_letter")
DROP_DEAD_LETTER = Script("drop_dead_letter")

CLAIM = Script("claim")
RENEW = Script("renew")
MARK = Script("mark")
FINISH = Script("finish")
FINISH_WITH_DEAD_LETTER = Script("finish_with_dead_letter")
BURY = Script("bury")
RELEASE = Script("release")
RETURN_STRAYS = Script("return_strays")
HAND_BACK = Script("hand_back")
RECONCILE = Script("reconcile")

STORE_VECTORS = Script("store_vectors")


@cache
def _encoded(name: str) -> bytes:
    return _source(name).encode()


@cache
def _source(name: str) -> str:
    lua = files("producer.queue") / "lua"
    included: set[str] = set()

    def resolved(text: str) -> str:
        return _INCLUDE.sub(lambda line: include(line[1]), text)

    def include(name: str) -> str:
        if name in included:
            return ""
        included.add(name)
        return resolved((lua / "includes" / f"{name}.lua").read_text())

    text = _HEADER.sub("", (lua / f"{name}.lua").read_text())
    lines = map(str.strip, resolved(text).splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("--"))
