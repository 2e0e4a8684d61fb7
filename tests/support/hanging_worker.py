"""A worker process in which a text hangs a stage: hanging_worker.py OWNER STAGE [FLAG].

With a FLAG it hangs only as long as that file is missing, which it writes, so that its successor goes on.
"""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from producer.contract import Truncate
from support.killing_worker import token_of
from support.serving import booted
from worker.backends.fake import FakeBackend
from worker.serving.app import serve
from worker.settings import Settings, read_settings
from worker.telemetry.channel import ChildEnd
from worker.telemetry.logs import configure_logs
from worker.tokenization.tokenizer import Encoded, Tokenizer

HANGS = "zebra"  # one token of the fake model


class Hanging:
    """A tokenizer that does something to its process where the word occurs."""

    def __init__(self, tokenizer: Tokenizer, strike: Callable[[], object]) -> None:
        self._tokenizer = tokenizer
        self._strike = strike

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, texts: Sequence[str], truncate: Truncate, *, num_unpooled: int = 0) -> Encoded:
        if any(HANGS in text for text in texts):
            self._strike()
        return self._tokenizer.encode(texts, truncate, num_unpooled=num_unpooled)


async def run(settings: Settings, owner: str, stage: str, channel: ChildEnd) -> None:
    found = booted(settings)
    loop = asyncio.get_running_loop()
    strikes: dict[str, Callable[[], object]] = {
        "tokenizer": threading.Event().wait,
        "loop": lambda: loop.call_soon_threadsafe(time.sleep, 3600),
        "process": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    }
    if stage == "device":
        hanging = [token_of(found.tokenizer, HANGS)]
        found.backend.close()
        found = replace(found, backend=FakeBackend(dim=found.model.dim, hanging=hanging))
    elif stage in strikes:
        tokenizer = cast("Tokenizer", Hanging(found.tokenizer, strikes[stage]))
        found = replace(found, tokenizer=tokenizer)
    await serve(settings, found, owner=owner, on_ready=channel.announce_ready)


def main() -> None:
    owner, stage, *flags = sys.argv[1:]
    for flag in map(Path, flags):
        stage = "none" if flag.exists() else stage
        flag.touch()
    chosen = read_settings()
    configure_logs("INFO", jsonl=False)
    asyncio.run(run(chosen, owner, stage, ChildEnd(chosen.grace_s)))


if __name__ == "__main__":
    main()
