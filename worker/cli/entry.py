"""Shared by all `worker` commands: settings from the environment, and errors as exit codes."""

import os
from contextlib import AbstractContextManager
from typing import Any

from producer.errors import ProfileError
from producer.terminal import exit_on_error
from worker.cli.unknown_variables import warn_of_unknown_variables
from worker.settings import Settings, read_settings
from worker.telemetry.logs import configure_logs


def settings_from(options: dict[str, Any], *, warns: bool = True) -> Settings:
    """Read the settings, with options overriding the environment, and configure logging.

    `warns` of variables that are named like ours and unknown.
    """
    settings = read_settings(**options)
    configure_logs(settings.log_level, jsonl=settings.jsonl_logging)
    if warns:
        warn_of_unknown_variables(os.environ)
    return settings


def errors_as_exit_codes() -> AbstractContextManager[None]:
    """End the process at an Embedmill error with one line and a status: a ProfileError's own, else 1."""
    return exit_on_error(lambda error: error.exit_code if isinstance(error, ProfileError) else 1)
