"""`worker list-profiles`: shows this machine, and which of a model's profiles can run on it."""

import sys
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

    Shows this machine, the profiles with a reason for each that cannot run, and the selected one, for each
    GPU if they differ. Exits with status 3 for a profile or tags that cannot be followed. Also available as
    list-model-profiles.
    """
    settings = settings_from(options)
    from selection import listing, listing_json
    from selection.choice import EXIT_UNKNOWN
    from worker.startup.survey import choices_by_gpu, survey

    seen = survey(settings, facts_file=facts_file)
    show = listing_json if layout == "json" else listing
    click.echo(show(seen.facts, seen.choice, each_gpu=choices_by_gpu(seen, settings)))
    # A machine where nothing runs has been listed like any other; a wish that cannot be met is an error.
    sys.exit(EXIT_UNKNOWN if seen.choice.exit_code == EXIT_UNKNOWN else 0)
