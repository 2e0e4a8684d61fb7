"""A worker of the tests' own in this process: everything real but the network, which is the fake backend."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from producer.transport.connect import end_tasks
from worker.backends.fake import FakeBackend
from worker.serving.app import serve
from worker.settings import Settings
from worker.startup.boot import Booted, boot

MODEL = "fake/echo"


def booted(settings: Settings, **backend: Any) -> Booted:
    """The fake profile, with a backend that fails as it is told."""
    found = boot(settings)
    if not backend:
        return found
    found.backend.close()
    options = {"dim": found.model.dim, "max_text_tokens": found.model.max_text_tokens, **backend}
    return replace(found, backend=FakeBackend(**options))


@asynccontextmanager
async def worker(
    redis_url: str, *, backend: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[None]:
    """A worker on that server until the block ends; its death fails the block."""
    chosen = Settings(model=MODEL, redis_url=redis_url, **settings)
    task = asyncio.create_task(serve(chosen, booted(chosen, **(backend or {}))))
    try:
        yield
        if task.done():
            task.result()
    finally:
        await end_tasks(task)


async def producer(*arguments: str, redis_url: str) -> tuple[int, str, str]:
    """The `producer` command as a process: its status, output and errors."""
    command = [sys.executable, "-m", "producer", *arguments, "--redis-url", redis_url]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()
