"""What all commands of `worker` share: settings from the environment, and errors as exit codes."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from producer.errors import EmbedmillError, ProfileError
from worker.settings import Settings, read_settings
from worker.telemetry.logs import configure_logs


def settings_from(options: dict[str, Any]) -> Settings:
    """The settings, in which a command's options come before the environment; also configures logging."""
    settings = read_settings(**options)
    configure_logs(settings.log_level, jsonl=settings.jsonl_logging)
    return settings


@contextmanager
def errors_as_exit_codes() -> Iterator[None]:
    """End the process at an error of ours with one line and a status, never with a traceback.

    The status is 1, or that of the ProfileError.
    """
    try:
        yield
    except EmbedmillError as error:
        click.echo(f"error [{error.code}]: {error}", err=True)
        sys.exit(error.exit_code if isinstance(error, ProfileError) else 1)
