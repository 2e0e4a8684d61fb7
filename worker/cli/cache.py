"""The commands `worker cache list`, `prune` and `verify`, and `worker download-to-cache`."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from producer.terminal import spoken
from worker.cache.entries import Entry, cache_entries
from worker.cli.entry import errors_as_exit_codes, settings_from

_UNITS_S = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}
_FORMAT = click.option(
    "--format", "layout", type=click.Choice(["text", "json"]), default="text", show_default=True
)


def _age_s(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds in `30d`, `12h`, `90min` or `45s`; a number alone is days."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(d|h|min|s)?", value)
    if found is None:
        raise click.BadParameter(f"{value!r:.40} is no age; write 30d, 12h, 90min or 45s")
    return float(found[1]) * _UNITS_S[found[2] or "d"]


@click.group("cache")
def cache() -> None:
    """Manage the cache of models and everything that was computed for them."""


@cache.command("list")
@_FORMAT
def list_entries(layout: str) -> None:
    """Show what lies there, how large and how old it is, and whose it is."""
    settings = settings_from({})
    with errors_as_exit_codes():
        entries = cache_entries(settings.cache_path)
    if layout == "json":
        click.echo(json.dumps([_fields(each) for each in entries], indent=1))
        return
    for line in _table(entries):
        click.echo(line)
    total = sum(each.num_bytes for each in entries)
    click.echo(f"{len(entries)} entries, {_size(total)}, in {settings.cache_path}")


@cache.command()
@click.option(
    "--older-than", "older_than_s", callback=_age_s, help="Only what is older: 30d, 12h; 0s is all."
)
@click.option("--keep-model", "keep_models", multiple=True, help="Leave what is this model's; repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed.")
def prune(older_than_s: float | None, keep_models: tuple[str, ...], dry_run: bool) -> None:
    """Remove what can be made or downloaded again; what live workers use is left."""
    if older_than_s is None and not keep_models:
        raise click.UsageError("say what may go by --older-than, --keep-model or both")
    settings = settings_from({})
    with errors_as_exit_codes():
        from worker.cache.prune import remove_entries

        pruned = remove_entries(
            settings.cache_path,
            cache_entries(settings.cache_path),
            older_than_s=older_than_s or 0.0,
            keep_models=keep_models,
            dry_run=dry_run,
        )
    for line in _table(pruned.removed):
        click.echo(line)
    if pruned.in_use:
        click.echo(f"{len(pruned.in_use)} entries are of models that live workers use, and stay")
    total = _size(sum(each.num_bytes for each in pruned.removed))
    click.echo(f"{'would remove' if dry_run else 'removed'} {len(pruned.removed)} entries, {total}")


@cache.command()
def verify() -> None:
    """Check hashes, JSON and plans; exit 1 with a line for each thing that is damaged."""
    settings = settings_from({})
    with errors_as_exit_codes():
        from worker.cache.verify import faults

        entries = cache_entries(settings.cache_path)
        found = [fault for entry in entries for fault in faults(entry)]
    for fault in found:
        click.echo(f"damaged: {fault}")
    click.echo(f"{len(entries)} entries checked, {len(found)} damaged")
    sys.exit(1 if found else 0)


@click.command("download-to-cache")
@click.option("--model", "models", multiple=True, help="Model to fetch; may be repeated (EMBEDMILL_MODEL).")
@click.option(
    "-p", "--profile", "--profiles", "profiles", multiple=True, help="Fetch the model of this profile id."
)
@click.option("--all", "every", is_flag=True, help="Fetch every model that has a manifest.")
def download_to_cache(models: tuple[str, ...], profiles: tuple[str, ...], every: bool) -> None:
    """Fetch models into the cache and read them, so that a run needs no network."""
    settings = settings_from({})
    with errors_as_exit_codes():
        from worker.cache.download import download, requested_manifests

        for manifest in requested_manifests(settings, models=models, profiles=profiles, every=every):
            click.echo(download(manifest, settings))


def _fields(entry: Entry) -> dict[str, Any]:
    return {
        "kind": entry.kind,
        "model": entry.model,
        "profile": entry.profile,
        "bytes": entry.num_bytes,
        "age_s": round(entry.age_s),
        "path": str(entry.path),
    }


def _table(entries: Sequence[Entry]) -> list[str]:
    rows = [
        (
            each.kind,
            _size(each.num_bytes),
            spoken(each.age_s),
            each.model or "?",
            each.profile,
            each.path.name,
        )
        for each in entries
    ]
    widths = [max((len(row[column]) for row in rows), default=0) for column in range(5)]
    return [
        "  ".join((*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[5]))
        for row in rows
    ]


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.1f} MiB" if num_bytes >= 2**20 else f"{num_bytes / 1024:.1f} KiB"
