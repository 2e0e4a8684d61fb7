"""`worker download-to-cache`: downloads models ahead of time, for workers without a network."""

import click

from worker.cli.entry import settings_from


@click.command("download-to-cache")
@click.option("--model", "models", multiple=True, help="Model to download; repeatable (EMBEDMILL_MODEL).")
@click.option(
    "-p",
    "--profile",
    "--profiles",
    "profiles",
    multiple=True,
    help="Download the model of the profile with this id; repeatable.",
)
@click.option("--all", "every", is_flag=True, help="Download every model that has a manifest.")
def download_to_cache_command(models: tuple[str, ...], profiles: tuple[str, ...], every: bool) -> None:
    """Download models for workers without a network.

    Models are stored in the cache, and loaded once to check them.
    """
    settings = settings_from({})
    from worker.cache.download import download, requested_manifests

    for manifest in requested_manifests(settings, models=models, profiles=profiles, every=every):
        click.echo(download(manifest, settings))
