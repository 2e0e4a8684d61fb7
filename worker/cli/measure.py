"""`worker measure`: measures how fast each profile is on this machine."""

from typing import Any

import click

from worker.cli.entry import settings_from
from worker.cli.options import format_option, model_options


@click.command("measure")
@model_options
@click.option("--mean-tokens", type=int, help="Mean length of the texts in tokens (EMBEDMILL_MEAN_TOKENS).")
@click.option(
    "--lengths", type=click.Path(), help="File with one text length in tokens per line (EMBEDMILL_LENGTHS)."
)
@format_option
def measure_command(layout: str, **options: Any) -> None:
    """Benchmark every runnable profile on this machine.

    The results are kept; with EMBEDMILL_POLICY=measured the fastest profile is selected.
    """
    settings = settings_from(options)
    from worker.startup.measurement import as_json, measure_profiles, table

    click.echo((as_json if layout == "json" else table)(measure_profiles(settings)))
