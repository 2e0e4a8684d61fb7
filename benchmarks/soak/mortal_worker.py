"""`worker run` with a fake model: one word kills the worker process that embeds it.

    python -m benchmarks.soak.mortal_worker [OWNER]

Without OWNER this is the parent process, which starts itself with one.
"""

import asyncio
import os
import sys
from dataclasses import replace

from producer.contract import Keys, Truncate, queue_name
from worker.backends.fake import FakeBackend
from worker.consumer.starting import announced
from worker.serving.app import serve
from worker.settings import Settings, read_settings
from worker.startup.boot import Booted, boot
from worker.supervisor.supervisor import supervise
from worker.telemetry.channel import ChildEnd
from worker.telemetry.logs import configure_logs

COMMAND = [sys.executable, "-m", "benchmarks.soak.mortal_worker"]
POISON = "zebra"  # one token of the fake model


def main() -> None:
    settings = read_settings()
    configure_logs(settings.log_level, jsonl=False)
    if len(sys.argv) == 1:
        sys.exit(supervise(settings, os.environ, command=lambda owner: [*COMMAND, owner]))
    owner, channel = sys.argv[1], ChildEnd(settings.grace_s)
    with announced(settings.redis_url, Keys(queue_name(settings.name), settings.prefix), owner):
        booted = mortal(settings)
    asyncio.run(serve(settings, booted, owner=owner, on_ready=channel.announce_ready))


def mortal(settings: Settings) -> Booted:
    """The fake profile, with a device that kills the process."""
    found = boot(settings)
    found.backend.close()
    _, token, _ = found.tokenizer.encode([POISON], Truncate.END).tokens.ids.tolist()
    model = found.model
    deadly = FakeBackend(dim=model.dim, max_text_tokens=model.max_text_tokens, deadly=[token])
    return replace(found, backend=deadly)


if __name__ == "__main__":
    main()
