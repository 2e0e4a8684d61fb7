"""`worker cache list`, `prune` and `verify`: inspect and clean the cache."""

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

import click

from producer.terminal import format_bytes, format_duration
from worker.cache.entries import Entry, cache_entries
from worker.cli.entry import settings_from
from worker.cli.options import format_option

_UNITS_S = {"d": 86_400, "h": 3_600, "min": 60, "s": 1}


def _age_s(_context: click.Context, _parameter: click.Parameter, value: str | None) -> float | None:
    """Seconds in `30d`, `12h`, `90min` or `45s`; a number alone counts days."""
    if value is None:
        return None
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*(d|h|min|s)?", value)
    if found is None:
        raise click.BadParameter(f"{value!r:.40} is not an age; write, for example, 30d, 12h, 90min or 45s")
    return float(found[1]) * _UNITS_S[found[2] or "d"]


@click.group("cache")
def cache_command() -> None:
    """Inspect and clean the cache.

    It holds models and TensorRT plans, and what was verified, measured and tuned on this machine.
    """


@cache_command.command("list")
@format_option
def cache_list_command(layout: str) -> None:
    """List all entries with their size, age and model."""
    settings = settings_from({})
    entries = cache_entries(settings.cache_path)
    if layout == "json":
        click.echo(json.dumps([_fields(each) for each in entries], indent=1))
        return
    for line in _table(entries):
        click.echo(line)
    total = sum(each.num_bytes for each in entries)
    click.echo(f"{_counted(len(entries))}, {format_bytes(total)}, in {settings.cache_path}")


@cache_command.command("prune")
@click.option(
    "--older-than",
    "older_than_s",
    callback=_age_s,
    metavar="AGE",
    help="Remove only entries older than this, such as 30d or 12h; 0s matches all.",
)
@click.option("--keep-model", "keep_models", multiple=True, help="Keep this model's entries; repeatable.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed, and remove nothing.")
def cache_prune_command(older_than_s: float | None, keep_models: tuple[str, ...], dry_run: bool) -> None:
    """Remove entries, except those that running workers use.

    Removed entries can be downloaded or made again.
    """
    if older_than_s is None and not keep_models:
        raise click.UsageError("name the entries to remove with --older-than, --keep-model or both")
    settings = settings_from({})
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
        click.echo(f"kept {_counted(len(pruned.in_use))} of models that running workers use")
    total = format_bytes(sum(each.num_bytes for each in pruned.removed))
    click.echo(f"{'would remove' if dry_run else 'removed'} {_counted(len(pruned.removed))}, {total}")


@cache_command.command("verify")
def cache_verify_command() -> None:
    """Check hashes, JSON files and plans for damage.

    Prints a line for each damaged entry, and exits with status 1 if there is one.
    """
    settings = settings_from({})
    from worker.cache.verify import faults

    entries = cache_entries(settings.cache_path)
    found = [fault for entry in entries for fault in faults(entry)]
    for fault in found:
        click.echo(f"damaged: {fault}")
    click.echo(f"{_counted(len(entries))} checked, {len(found)} damaged")
    sys.exit(1 if found else 0)


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
            format_bytes(each.num_bytes),
            format_duration(each.age_s),
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


def _counted(number: int) -> str:
    return f"{number} entry" if number == 1 else f"{number} entries"
