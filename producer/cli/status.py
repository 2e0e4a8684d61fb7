"""`producer status`: shows queues and their workers, as a table or as JSON."""

import asyncio
from dataclasses import asdict

import click
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from producer.cli.exit_status import exit_status
from producer.cli.options import echo_json, json_option, prefix_option, redis_url_option
from producer.contract import Keys, WorkerRecord, queue_name, worker_label
from producer.queue.status import QueueStatus, pause_note, read_queue, read_status
from producer.terminal import escaped, format_duration, wide_console
from producer.transport.connect import connect, redis_errors

_MAX_LINE_CHARS = 2000


@click.command("status")
@redis_url_option
@prefix_option
@click.option(
    "--model",
    "models",
    multiple=True,
    help="Only this model's queue, which needs no right to SCAN.  [default: all]",
)
@json_option
def status_command(redis_url: str, prefix: str, models: tuple[str, ...], as_json: bool) -> None:
    """Show the queues under the prefix, with their workers and numbers of dead letters."""
    with exit_status():
        queues = asyncio.run(_read(redis_url, prefix, models))
    if as_json:
        echo_json([asdict(queue) for queue in queues])
    elif queues:
        console = wide_console()
        console.print(_queue_table(queues))
        for queue in queues:
            if note := pause_note(queue):
                console.print(Text(escaped(note)))
            for worker in queue.workers:
                console.print(_worker_lines(worker))
            for name, why in queue.unread_workers.items():
                console.print(_lines(f"worker {worker_label(name)}", f"its record cannot be read: {why}"))
    else:
        click.echo(f"no queues under {prefix}:")


async def _read(redis_url: str, prefix: str, models: tuple[str, ...]) -> tuple[QueueStatus, ...]:
    async with connect(redis_url) as redis:
        with redis_errors(redis_url):
            if not models:
                return await read_status(redis, prefix)
            return tuple([await read_queue(redis, Keys(queue_name(model), prefix)) for model in models])


def _queue_table(queues: tuple[QueueStatus, ...]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("queue", no_wrap=True)
    for heading in ("pending", "next age", "running", "bytes", "done", "failed", "dead", "workers"):
        table.add_column(heading, justify="right")
    for one in queues:
        age = "" if one.next_age_s is None else format_duration(one.next_age_s)
        counts = (one.running, one.num_bytes, one.done, one.failed, one.dead, one.num_workers)
        table.add_row(Text(escaped(one.queue)), f"{one.pending:,}", age, *(f"{count:,}" for count in counts))
    return table


def _worker_lines(worker: WorkerRecord) -> Text:
    """Several lines per worker: one row would be too wide for any terminal."""
    why = f" ({worker.reason})" if worker.reason else ""
    lines = [
        f"{worker.model} ({worker.revision}) on {worker.device}, {worker.precision}",
        f"profile {worker.profile}{why}, ready for {format_duration(worker.ready_for_s)}",
        f"done: {worker.jobs_done:,} jobs, {worker.texts_done:,} texts, {worker.tokens_done:,} tokens",
    ]
    if worker.state != "serving":
        lines.append(f"  {worker.state}")
    if worker.failures:
        lines.append("texts failed: " + ", ".join(f"{code} {n:,}" for code, n in worker.failures.items()))
    lines += [f"profile {name} failed: {reason}" for name, reason in worker.profiles_failed.items()]
    return _lines(f"worker {worker_label(worker.name)}", *lines)


def _lines(heading: str, *lines: str) -> Text:
    """An empty line, the heading, and each line indented; whoever wrote them, they stay lines."""
    shown = (escaped(" ".join(line.split()), max_chars=_MAX_LINE_CHARS) for line in lines)
    return Text("\n".join(["", escaped(heading), *(f"  {line}" for line in shown)]))
