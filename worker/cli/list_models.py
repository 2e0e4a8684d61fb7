"""`worker list-models`: shows the models that have a manifest."""

import click

from worker.cli.entry import settings_from
from worker.cli.options import format_option


@click.command("list-models")
@format_option
def list_models_command(layout: str) -> None:
    """List the models that have a manifest.

    Shows their family, sizes and revision, whether golden vectors are shipped, and their sets of profiles.
    Any other model with safetensors is served too, by the profiles for all models.
    """
    settings_from({})
    from selection import model_listing, model_listing_json, shipped_models

    click.echo((model_listing_json if layout == "json" else model_listing)(shipped_models()), nl=False)
