"""Embeds a file through the queue: reads, embeds and writes concurrently, in order, in bounded memory."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

from producer.contract import MAX_BYTES_PER_JOB, EmbedOptions, Provenance, Reply
from producer.files import Output, Reader, RowBatch, Totals

DEFAULT_BATCH_TEXTS = 512
DEFAULT_MAX_IN_FLIGHT = 16


class BatchEmbedder(Protocol):
    """The part of a client that `embed_file` needs; `producer.client.Client` has it."""

    def embed_many(
        self,
        batches: AsyncIterator[Sequence[object]],
        options: EmbedOptions,
        *,
        max_in_flight: int,
    ) -> AsyncGenerator[Reply, None]: ...

    async def num_workers(self) -> int: ...

    @property
    def num_withdrawn(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The counts of a run: so far, or final once it has ended.

    `num_texts` counts all rows answered, including failed ones; `failed` counts the failed ones by code;
    `earlier` has the counts of the interrupted run that this one resumed; `seconds` is the time since the
    start. `prompt_name` is the model's prompt that was put before the texts, None if none was.
    `estimated_texts` is the number of rows in the whole input, None while unknown.
    """

    num_texts: int
    num_tokens: int
    num_truncated: int
    failed: Mapping[str, int]
    earlier: Totals
    seconds: float
    sources: tuple[Provenance, ...]
    prompt_name: str | None
    estimated_texts: int | None

    @property
    def num_failed(self) -> int:
        """Rows without a vector."""
        return sum(self.failed.values())

    @property
    def texts_per_s(self) -> float:
        """Rows per second in this run, without those of the run it resumed."""
        return (self.num_texts - self.earlier.num_texts) / max(self.seconds, 1e-9)

    @property
    def tokens_per_s(self) -> float:
        """Tokens per second in this run."""
        return (self.num_tokens - self.earlier.num_tokens) / max(self.seconds, 1e-9)


async def embed_file(
    client: BatchEmbedder,
    reader: Reader,
    output: Output,
    *,
    options: EmbedOptions,
    batch_texts: int = DEFAULT_BATCH_TEXTS,
    max_in_flight: int = DEFAULT_MAX_IN_FLIGHT,
    on_progress: Callable[[Summary], None] = lambda summary: None,
) -> Summary:
    """Embed every row of `reader` that `output` does not have yet; a row that cannot be embedded fails alone.

    At most `max_in_flight` + 2 batches of `batch_texts` texts or 8 MiB are in memory, whatever the file's
    size. `output` is published when its own context exits, not here. Raises FileError for either file, and
    whatever the client raises.
    """
    unanswered: deque[RowBatch] = deque()  # the rows of the next replies, without their texts
    started_s = time.monotonic()

    async def batches() -> AsyncGenerator[Sequence[object], None]:
        skip = output.next_row
        rows = reader.batches(max_texts=batch_texts, max_bytes=MAX_BYTES_PER_JOB, skip=skip)
        while (batch := await in_thread(partial(next, rows, None), reader.stop)) is not None:
            unanswered.append(replace(batch, texts=[]))
            yield batch.texts

    async with (
        aclosing(batches()) as asked,
        aclosing(client.embed_many(asked, options, max_in_flight=max_in_flight)) as replies,
    ):
        async for reply in replies:
            await in_thread(partial(output.write, unanswered.popleft(), reply))
            on_progress(_summary(output, reader, started_s))
    return _summary(output, reader, started_s)


def _summary(output: Output, reader: Reader, started_s: float) -> Summary:
    totals = output.totals
    return Summary(
        num_texts=totals.num_texts,
        num_tokens=totals.num_tokens,
        num_truncated=totals.num_truncated,
        failed=totals.failed,
        earlier=output.earlier,
        seconds=time.monotonic() - started_s,
        sources=output.sources,
        prompt_name=output.prompt_name,
        estimated_texts=reader.estimated_rows(),
    )


_Result = TypeVar("_Result")


async def in_thread(call: Callable[[], _Result], on_cancel: Callable[[], None] = lambda: None) -> _Result:
    """Run a blocking call in a thread; a cancellation waits for it, so that no file is closed under it."""
    # A future, not a task: a loop that shuts down cancels every task.
    future = asyncio.get_running_loop().run_in_executor(None, call)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        on_cancel()
        await asyncio.wait([future])
        raise
