"""Where every command of `worker` begins and ends: settings from the environment, errors as exit codes."""

import sys
from typing import Any

import click

from producer.errors import EmbedmillError, ProfileError
from worker.settings import Settings, read_settings
from worker.telemetry.logs import configure_logs


def settings_from(options: dict[str, Any]) -> Settings:
    """The settings with a command's options before them; logging is set up by them."""
    with errors_as_exit_codes():
        settings = read_settings(**options)
        configure_logs(settings.log_level, jsonl=settings.jsonl_logging)
    return settings


class errors_as_exit_codes:
    """Our errors end the process with one line and a code, never with a traceback."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EmbedmillError):
            click.echo(f"error [{error.code}]: {error}", err=True)
            sys.exit(error.exit_code if isinstance(error, ProfileError) else 1)
