"""`worker explain`: explains which profile is selected, and why."""

from pathlib import Path
from typing import Any

import click

from worker.cli.entry import settings_from
from worker.cli.options import facts_option, model_options


@click.command("explain")
@model_options
@facts_option
def explain_command(facts_file: Path | None, **options: Any) -> None:
    """Explain which profile is selected, and why."""
    settings = settings_from(options)
    from selection import explain
    from worker.startup.survey import survey

    seen = survey(settings, facts_file=facts_file)
    click.echo(explain(seen.facts, seen.choice))
