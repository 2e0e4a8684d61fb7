"""Writes the results of jobs that end at the same time in one command."""

import asyncio
from dataclasses import dataclass

from producer.contract import Keys
from producer.queue.enqueue import MAX_INLINE_BYTES, STAGED_S
from producer.queue.scripts import FINISH
from producer.transport.autopipeline import AutoPipeline, Command

_MAX_JOBS = 32  # about a millisecond of the server's time
_MAX_BYTES = 1024 * 1024  # as much
_LATE_S = 0.005  # how long a result waits at most for the reply to those before it, to be sent with others


@dataclass(frozen=True, slots=True, eq=False)
class _Ending:
    job: str
    token: str
    result: bytes
    written: asyncio.Future[bool]


class Endings:
    """Ends the jobs of one worker. redis-py's errors pass through to each job of a command that failed."""

    def __init__(self, pipeline: AutoPipeline, keys: Keys, *, worker: str) -> None:
        self._pipeline = pipeline
        self._keys = keys
        self._worker = worker
        self._waiting: list[_Ending] = []
        self._late: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, job: str, token: str, result: bytes) -> bool:
        """End the job with its result; False if the token does not own it any more."""
        loop = asyncio.get_running_loop()
        ending = _Ending(job, token, result, loop.create_future())
        if len(result) > MAX_INLINE_BYTES:
            self._start([ending])
        else:
            if not self._waiting and self._tasks:
                self._late = loop.call_later(_LATE_S, self._flush)
            elif not self._waiting:
                loop.call_soon(self._flush)  # after all jobs that end in this turn of the loop
            self._waiting.append(ending)
        return await ending.written

    def _flush(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
        waiting, self._waiting = self._waiting, []
        group: list[_Ending] = []
        num_bytes = 0
        for ending in waiting:
            if group and (len(group) == _MAX_JOBS or num_bytes + len(ending.result) > _MAX_BYTES):
                self._start(group)
                group, num_bytes = [], 0
            group.append(ending)
            num_bytes += len(ending.result)
        if group:
            self._start(group)

    def _start(self, group: list[_Ending]) -> None:
        task = asyncio.create_task(self._send(group), name="embedmill-endings")
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._waiting:
            self._flush()

    async def _send(self, group: list[_Ending]) -> None:
        staging: list[Command] = []
        arguments: list[str | bytes] = []
        for one in group:
            if len(one.result) > MAX_INLINE_BYTES:
                staging_token = f"{one.job}:{one.token}"
                staging.append(("SET", self._keys.staged(staging_token), one.result, "EX", str(STAGED_S)))
                arguments += [one.job, one.token, b"", staging_token]
            else:
                arguments += [one.job, one.token, one.result, ""]
        try:
            command = FINISH.command(self._keys.root, self._worker, *arguments)
            *_, written = await self._pipeline.send(*staging, command)
        except BaseException as error:
            for one in group:
                if not one.written.done():
                    one.written.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for one, is_written in zip(group, written, strict=True):
            if not one.written.done():
                one.written.set_result(bool(is_written))
