"""A worker process that some texts kill; tests start it as the supervisor would: killing_worker.py OWNER."""

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from producer.contract import Keys, Truncate, queue_name
from support.serving import booted
from worker.backends.fake import FakeBackend
from worker.consumer.starting import announced
from worker.serving.app import serve
from worker.settings import Settings, read_settings
from worker.startup.boot import Booted
from worker.telemetry.channel import ChildEnd
from worker.tokenization.tokenizer import Encoded, Tokenizer

KILLS_DEVICE = "zebra"  # one token of the fake model
KILLS_TOKENIZER = "quagga"


class Mortal:
    """A tokenizer that dies of some texts, as native code can."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def encode(self, texts: Sequence[str], truncate: Truncate, *, num_unpooled: int = 0) -> Encoded:
        if any(KILLS_TOKENIZER in text for text in texts):
            os.kill(os.getpid(), signal.SIGKILL)
        return self._tokenizer.encode(texts, truncate, num_unpooled=num_unpooled)


def token_of(tokenizer: Tokenizer, word: str) -> int:
    """The id of a word that is one token."""
    _, token, _ = tokenizer.encode([word], Truncate.END).tokens.ids.tolist()
    return int(token)


def deadly(settings: Settings) -> Booted:
    """The fake profile, with a tokenizer and a device that die of their words."""
    found = booted(settings)
    found.backend.close()
    token, model = token_of(found.tokenizer, KILLS_DEVICE), found.model
    device = FakeBackend(dim=model.dim, max_text_tokens=model.max_text_tokens, deadly=[token])
    return replace(found, backend=device, tokenizer=cast("Tokenizer", Mortal(found.tokenizer)))


def main() -> None:
    settings, owner = read_settings(), sys.argv[1]
    channel = ChildEnd(settings.grace_s)
    with announced(settings.redis_url, Keys(queue_name(settings.name), settings.prefix), owner):
        found = deadly(settings)
    asyncio.run(serve(settings, found, owner=owner, on_ready=channel.announce_ready))


if __name__ == "__main__":
    main()
