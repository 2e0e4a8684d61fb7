"""`producer jobs`: lists the jobs of a queue, or waits until those of a run have ended."""

import sys
from dataclasses import asdict
from typing import Any

import click
from rich.box import SIMPLE
from rich.table import Table
from rich.text import Text

from producer.cli.exit_status import ExitStatus
from producer.cli.options import (
    duration_option,
    echo_json,
    json_option,
    max_option,
    queue_options,
    with_client,
)
from producer.contract import worker_label
from producer.queue.enqueue import Priority
from producer.queue.listing import JobState, QueuedJob
from producer.terminal import escaped, format_bytes, format_duration, wide_console

_SHOWN_RUNS = 3
_STATES, _PRIORITIES = ([one.value for one in kind] for kind in (JobState, Priority))


@click.command("jobs")
@click.option("--state", type=click.Choice(_STATES), help="Only jobs in this state.  [default: all but dead]")
@click.option("--run", help="Only jobs that this run wants.")
@click.option("--priority", type=click.Choice(_PRIORITIES), help="Only jobs of this priority.")
@duration_option(
    "--older-than", "min_age_s", default="0", help="Only jobs that were enqueued so long ago, such as 10m."
)
@max_option("max_jobs", "How many jobs to show.")
@click.option("--wait", is_flag=True, help="Wait until no job of the --run is pending or running.")
@duration_option("--timeout", "timeout_s", help="How long to --wait.  [default: for ever]")
@json_option
@queue_options
def jobs_command(wait: bool, timeout_s: float | None, as_json: bool, **given: Any) -> None:
    """List the jobs of a queue: those that run, then the pending ones in the order of their claims.

    \b
    Exit status: 0 done; 2 wrong usage; 3 trouble with the queue, or --timeout is over;
    1 the run has ended, and some of its jobs were given up (--wait).
    """
    queue = {name: given.pop(name) for name in ("model", "redis_url", "prefix")}
    if wait:
        _wait(given["run"], timeout_s, as_json, queue)
        return
    if timeout_s is not None:
        raise click.UsageError("--timeout is for --wait")
    jobs = with_client(lambda client: client.jobs(**given), **queue)
    if as_json:
        echo_json([asdict(job) for job in jobs])
    elif jobs:
        wide_console().print(_table(jobs))
    else:
        click.echo("no jobs")


def _wait(run: str | None, timeout_s: float | None, as_json: bool, queue: dict[str, str]) -> None:
    if run is None:
        raise click.UsageError("--wait needs the --run whose end to wait for")
    num_dead = with_client(lambda client: client.wait_for_run(run, timeout_s=timeout_s), **queue)
    if as_json:
        echo_json({"run": run, "ended": True, "dead_letters": num_dead})
    else:
        given_up = f"; {num_dead:,} jobs were given up, see `producer jobs --state dead`" if num_dead else ""
        click.echo(f"run {run}: no jobs on the queue{given_up}")
    if num_dead:
        sys.exit(ExitStatus.JOBS_GIVEN_UP)


def _table(jobs: list[QueuedJob]) -> Table:
    table = Table(box=SIMPLE)
    table.add_column("job", no_wrap=True)
    for heading in ("state", "priority", "age", "texts", "size", "tries", "runs", "worker"):
        table.add_column(heading)
    for one in jobs:
        runs = ", ".join(one.runs[:_SHOWN_RUNS]) + (", …" if len(one.runs) > _SHOWN_RUNS else "")
        numbers = (f"{one.num_texts:,}", format_bytes(one.num_bytes), str(one.tries))
        words = (escaped(runs), escaped(worker_label(one.worker or "")))
        job = Text(escaped(one.job))
        table.add_row(job, one.state, one.priority, format_duration(one.age_s), *numbers, *map(Text, words))
    return table
