"""Options shared by several `worker` commands."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])

facts_option = click.option(
    "--facts",
    "facts_file",
    type=click.Path(path_type=Path),
    help="Select for the machine described in this file instead of this one.",
)
format_option = click.option(
    "--format",
    "layout",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Output format.",
)


def model_options(command: _Command) -> _Command:
    """Add --model, --profile and --manifest."""
    for option in (
        click.option(
            "-m",
            "--manifest",
            "manifest_path",
            type=click.Path(),
            help="Manifest file of the model (EMBEDMILL_MANIFEST_PATH).",
        ),
        click.option(
            "--profile",
            "model_profile",
            help="Profile to pin: its id, its name, or `id (name)` (EMBEDMILL_MODEL_PROFILE).",
        ),
        click.option("--model", help="Model to serve (EMBEDMILL_MODEL)."),
    ):
        command = option(command)
    return command
