"""`worker check`: checks whether a worker can serve on this machine."""

from typing import Any

import click

from worker.cli.entry import settings_from
from worker.cli.options import model_options


@click.command("check")
@model_options
def check_command(**options: Any) -> None:
    """Check that a worker can serve on this machine.

    Selects, loads and verifies a profile as `run` does, then exits, with status 0 if it can serve.
    """
    settings = settings_from(options)
    from worker.startup.boot import boot

    booted = boot(settings)
    try:
        verified = booted.verified
        golden = (
            "no golden vectors to compare with"
            if verified.golden_cosine is None
            else f"worst cosine to the golden vectors {verified.golden_cosine:.7f}"
        )
        click.echo(
            f"ok: profile {booted.profile.name}, {booted.backend.dim} dimensions; {golden}; "
            f"worst cosine of a text alone to itself in a batch {verified.batch_cosine:.7f}"
        )
    finally:
        booted.backend.close()
