"""`producer embed --dry-run`: what there is to do, and how long it will take."""

from contextlib import suppress
from functools import partial

from producer.cli.embed_arguments import Arguments
from producer.cli.embed_queue import Connect, QueueClient, on_queue
from producer.cli.exit_status import ExitStatus
from producer.contract import Keys, Reply, queue_name
from producer.datasets import Target, plan_dataset
from producer.datasets.estimate import Sample, sample_inputs
from producer.errors import QueueError
from producer.files import Source
from producer.queue.status import QueueStatus, read_queue
from producer.terminal import format_bytes, format_duration
from producer.transport.connect import connect as connect_redis
from producer.transport.connect import redis_errors

_CHARACTERS_PER_TOKEN = 4.0
_BUSY_ENOUGH_S = 5.0  # a worker that has computed for less tells nothing about its speed


def run_dry(arguments: Arguments, sources: list[Source], connect: Connect) -> tuple[list[str], ExitStatus]:
    """The lines that tell it; a sample of the texts is embedded if a worker serves. Raises our errors."""
    settings, lines = arguments.dataset, []
    if arguments.writes_dataset(sources) and not arguments.overwrite:
        dataset = plan_dataset(sources, Target(arguments.output), settings)
        sources = [task.source for task in dataset.tasks]
        done = sum(part.num_rows for part in dataset.finished)
        lines.append(f"done       {len(dataset.finished):,} parts with {done:,} rows")
    if not sources:
        return [*lines, "to embed   nothing, the output is up to date"], ExitStatus.OK
    sample = sample_inputs(sources, settings)
    reply, status = None, None
    with suppress(QueueError):  # without a queue only the time is unknown
        if not arguments.embedded:
            reply, status = on_queue(partial(_ask, sample=sample, arguments=arguments), arguments, connect)
    return [*lines, *_told(sample, len(sources), reply, status)], ExitStatus.OK


async def _ask(
    client: QueueClient, *, sample: Sample, arguments: Arguments
) -> tuple[Reply | None, QueueStatus | None]:
    """The reply to the sample and the state of the queue; none without a worker."""
    if not sample.texts or await client.num_workers() == 0:
        return None, None
    reply = await client.embed(sample.texts, arguments.options)
    async with connect_redis(arguments.redis_url) as redis:
        with redis_errors(arguments.redis_url):
            return reply, await read_queue(redis, Keys(queue_name(arguments.model), arguments.prefix))


def _told(sample: Sample, num_inputs: int, reply: Reply | None, status: QueueStatus | None) -> list[str]:
    rows = sample.num_rows
    size = "" if sample.num_bytes is None else f", {format_bytes(sample.num_bytes)}"
    lines = [
        f"inputs     {num_inputs:,}{size}",
        f"rows       {'unknown' if rows is None else f'about {rows:,}'}",
    ]
    if reply is None:
        tokens = sample.mean_characters / _CHARACTERS_PER_TOKEN
        lines.append(f"tokens     {_count(rows, tokens)}, by {sample.mean_characters:,.0f} characters a text")
        return [*lines, "time       unknown: no worker serves the model's queue"]
    tokens = float(reply.token_counts.mean())
    failed = len(reply.failures)
    lines.append(f"tokens     {_count(rows, tokens)}, by a sample of {len(sample.texts):,}")
    if failed:
        lines.append(f"failed     {failed:,} of the sample, the first: {reply.failures[0].code}")
    if rows is not None:
        lines.append(f"output     about {format_bytes(rows * reply.vectors[0].nbytes)} of vectors")
    return [*lines, f"time       {_time(rows, tokens, status)}"]


def _count(rows: int | None, tokens_per_text: float) -> str:
    each = f"{tokens_per_text:,.1f} a text"
    return each if rows is None else f"about {round(rows * tokens_per_text):,}, {each}"


def _time(rows: int | None, tokens_per_text: float, status: QueueStatus | None) -> str:
    """By what the live workers computed while they were busy; what else is on the queue comes on top."""
    workers = [] if status is None else status.workers
    busy = [worker for worker in workers if worker.busy_s >= _BUSY_ENOUGH_S]
    if not busy or rows is None:
        return "unknown: the workers have not computed enough to tell their speed"
    tokens_per_s = sum(worker.batch_tokens / worker.busy_s for worker in busy) * len(workers) / len(busy)
    seconds = rows * tokens_per_text / max(tokens_per_s, 1e-9)
    return (
        f"about {format_duration(seconds)} at {tokens_per_s:,.0f} tokens/s of {len(workers):,} workers, if "
        "they have nothing else to do"
    )
