"""`worker run`: runs the supervisor and its worker processes."""

import os
import sys
from typing import Any

import click

from worker.cli.entry import settings_from
from worker.cli.options import model_options


@click.command("run")
@model_options
@click.option("--redis-url", help="Redis server with the queue (EMBEDMILL_REDIS_URL).")
@click.option("--served-model-name", help="Model name that producers use (EMBEDMILL_SERVED_MODEL_NAME).")
def run_command(**options: Any) -> None:
    """Serve jobs until stopped.

    Starts a worker process per GPU, or one on the CPU. One that dies is restarted, and its jobs go back to
    the queue.
    """
    settings = settings_from(options)
    given = {f"EMBEDMILL_{name.upper()}": str(value) for name, value in options.items() if value is not None}
    from worker.supervisor.supervisor import supervise

    sys.exit(supervise(settings, {**os.environ, **given}))
