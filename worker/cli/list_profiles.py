"""`worker list-profiles`: shows this machine, and which of a model's profiles can run on it."""

from pathlib import Path
from typing import Any

import click

from worker.cli.entry import settings_from
from worker.cli.options import facts_option, format_option, model_options


@click.command("list-profiles")
@model_options
@facts_option
@format_option
def list_profiles_command(layout: str, facts_file: Path | None, **options: Any) -> None:
    """List a model's profiles, and which can run here.

    Shows this machine, the profiles with a reason for each that cannot run, and the selected one. Also
    available as list-model-profiles.
    """
    settings = settings_from(options)
    from selection import listing, listing_json
    from worker.startup.survey import survey

    seen = survey(settings, facts_file=facts_file)
    click.echo((listing_json if layout == "json" else listing)(seen.facts, seen.choice))
