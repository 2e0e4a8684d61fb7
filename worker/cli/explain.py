"""`worker explain`: explains which profile is selected, and why."""

import sys
from pathlib import Path
from typing import Any

import click

from worker.cli.entry import settings_from
from worker.cli.options import facts_option, model_options


@click.command("explain")
@model_options
@facts_option
def explain_command(facts_file: Path | None, **options: Any) -> None:
    """Explain which profile is selected, and why.

    On a machine whose GPUs do not choose alike, GPU by GPU. The model's files are not read. Exits with status
    1 for a name behind which there can be no model, 3 for a profile or tags that cannot be followed, and with
    4 if no profile is runnable, as `run` does.
    """
    settings = settings_from(options)
    from selection import explain, explain_fleet, is_mixed
    from worker.startup.survey import choices_by_gpu, not_here_yet, survey

    seen = survey(settings, facts_file=facts_file)
    each_gpu = choices_by_gpu(seen, settings)
    story = explain_fleet(seen.facts, each_gpu) if is_mixed(each_gpu) else explain(seen.facts, seen.choice)
    click.echo(story)
    if note := not_here_yet(seen.manifest, settings):
        click.echo(f"\n{note}")
    sys.exit(seen.choice.exit_code or 0)
