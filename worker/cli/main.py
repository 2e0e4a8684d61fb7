"""The `worker` command: run, check, list-profiles, build-engines, and what fills and tends the cache."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import click

from worker.cli.cache import cache, download_to_cache
from worker.cli.entry import errors_as_exit_codes, settings_from
from worker.supervisor.child_channel import ChildChannel
from worker.supervisor.cpu_affinity import stay_near

_MODEL = click.option("--model", help="Model to serve (EMBEDMILL_MODEL).")
_PROFILE = click.option(
    "--profile", "model_profile", help="Profile id, name or `id (name)` to pin (EMBEDMILL_MODEL_PROFILE)."
)
_MANIFEST = click.option(
    "-m", "--manifest", "manifest_path", type=click.Path(), help="Manifest file (EMBEDMILL_MANIFEST_PATH)."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embedmill")
def main() -> None:
    """Serve an embedding model from a Redis queue with the best profile for this machine."""


@main.command()
@_MODEL
@_PROFILE
@_MANIFEST
@click.option("--redis-url", help="Redis to serve (EMBEDMILL_REDIS_URL).")
@click.option("--served-model-name", help="Name producers ask for (EMBEDMILL_SERVED_MODEL_NAME).")
def run(**options: Any) -> None:
    """Take jobs until stopped: a worker process for each GPU, or one for the CPU; the dead are restarted."""
    settings = settings_from(options)
    given = {f"EMBEDMILL_{name.upper()}": str(value) for name, value in options.items() if value is not None}
    with errors_as_exit_codes():
        from worker.supervisor.supervisor import run_host

        status = run_host(settings, {**os.environ, **given})
    sys.exit(status)


@main.command(hidden=True)
@click.option("--owner", required=True)
def run_one(owner: str) -> None:
    """What `run` starts for each device: choose, load and verify a profile, then take jobs until stopped."""
    settings = settings_from({})
    if uuid := os.environ.get("CUDA_VISIBLE_DEVICES", ""):
        stay_near(uuid)
    line = ChildChannel(settings.grace_s)
    with errors_as_exit_codes():
        from worker.serving.app import serve
        from worker.startup.boot import boot

        asyncio.run(serve(settings, boot(settings), owner=owner, on_ready=line.tell_ready))


@main.command()
@_MODEL
@_PROFILE
@_MANIFEST
def check(**options: Any) -> None:
    """Load and verify the profile, embed one text, and exit 0; or say why not."""
    settings = settings_from(options)
    with errors_as_exit_codes():
        from worker.startup.boot import boot

        booted = boot(settings)
        try:
            seen = booted.verified
            golden = "no golden vectors" if seen.golden_cosine is None else f"{seen.golden_cosine:.7f}"
            click.echo(
                f"ok: {booted.profile.name} gives {booted.backend.dim} dimensions; worst cosine to the "
                f"golden vectors: {golden}, in a full batch to the text alone: {seen.batch_cosine:.7f}"
            )
        finally:
            booted.backend.close()


@main.command()
@click.option("--redis-url", help="Redis to look at (EMBEDMILL_REDIS_URL).")
@click.option("--prefix", help="What its keys begin with (EMBEDMILL_PREFIX).")
@click.option("--once", is_flag=True, help="Show it once; so it is where output is no terminal.")
@click.option("--json", "as_json", is_flag=True, help="The same once, as JSON.")
@click.option("--interval", "interval_s", type=click.FloatRange(min=0.2), default=1.0, show_default=True)
def top(once: bool, as_json: bool, interval_s: float, **options: Any) -> None:
    """Show queues and workers live, from what they tell in Redis; `q` ends it."""
    settings = settings_from(options)
    with errors_as_exit_codes():
        from worker.cli.top import run_top

        run_top(settings, once=once, as_json=as_json, interval_s=interval_s)


_FACTS = click.option(
    "--facts", "facts_file", type=click.Path(path_type=Path), help="Choose for the machine in this file."
)


@main.command("list-profiles")
@_MODEL
@_PROFILE
@_MANIFEST
@_FACTS
@click.option("--format", "layout", type=click.Choice(["text", "json"]), default="text", show_default=True)
def list_profiles(layout: str, facts_file: Path | None, **options: Any) -> None:
    """Show the machine, the model's profiles with a reason for each, and which one would be taken."""
    settings = settings_from(options)
    with errors_as_exit_codes():
        from selection import listing, listing_json
        from worker.startup.boot import survey

        seen = survey(settings, facts_file=facts_file)
        click.echo((listing_json if layout == "json" else listing)(seen.facts, seen.choice))


@main.command()
@_MODEL
@_PROFILE
@_MANIFEST
@_FACTS
def explain(facts_file: Path | None, **options: Any) -> None:
    """Tell in sentences how the choice came about."""
    settings = settings_from(options)
    with errors_as_exit_codes():
        from selection import explain as story
        from worker.startup.boot import survey

        seen = survey(settings, facts_file=facts_file)
        click.echo(story(seen.facts, seen.choice))


@main.command()
@_MODEL
@_PROFILE
@_MANIFEST
@click.option("--mean-tokens", type=int, help="Mean length of the texts (EMBEDMILL_MEAN_TOKENS).")
@click.option(
    "--lengths", type=click.Path(), help="File of lengths in tokens, one a line (EMBEDMILL_LENGTHS)."
)
@click.option("--format", "layout", type=click.Choice(["text", "json"]), default="text", show_default=True)
def measure(layout: str, **options: Any) -> None:
    """Time every runnable profile on this machine, and keep it for EMBEDMILL_POLICY=measured."""
    settings = settings_from(options)
    with errors_as_exit_codes():
        from worker.startup.measurement import as_json, measure_profiles, table

        click.echo((as_json if layout == "json" else table)(measure_profiles(settings)))


@main.command("build-engines")
@_MODEL
@_PROFILE
@_MANIFEST
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    help="Build for GPUs of this compute capability, such as 8.9, wherever they are; may be repeated.",
)
def build_engines(capabilities: tuple[str, ...], **options: Any) -> None:
    """Build the TensorRT plans that a worker on this machine would use, and keep them in the cache."""
    settings = settings_from(options)
    with errors_as_exit_codes():
        from worker.cli.build_engines import build_engines as build
        from worker.cli.progress import bar_for_each

        with bar_for_each() as on_start:
            outcomes = list(build(settings, capabilities, on_start=on_start))
    for outcome in outcomes:
        click.echo(outcome.line)
    sys.exit(any(outcome.plan is None for outcome in outcomes))


main.add_command(list_profiles, "list-model-profiles")
main.add_command(cache)
main.add_command(download_to_cache)
