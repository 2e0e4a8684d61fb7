"""`worker run` with a fake model: one word kills the worker process that embeds it.

    python -m benchmarks.soak.mortal_worker [OWNER]

Without OWNER this is the parent process, which starts itself with one.
"""

import asyncio
import os
import sys
from dataclasses import replace

from producer.contract import Truncate
from worker.backends.fake import FakeBackend
from worker.serving.app import serve
from worker.settings import read_settings
from worker.startup.boot import boot
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
    channel = ChildEnd(settings.grace_s)
    found = boot(settings)
    found.backend.close()
    _, token, _ = found.tokenizer.encode([POISON], Truncate.END).tokens.ids.tolist()
    model = found.model
    deadly = FakeBackend(dim=model.dim, max_text_tokens=model.max_text_tokens, deadly=[token])
    asyncio.run(
        serve(settings, replace(found, backend=deadly), owner=sys.argv[1], on_ready=channel.announce_ready)
    )


if __name__ == "__main__":
    main()
