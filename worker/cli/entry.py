"""Where every command of `worker` begins and ends: settings from the environment, errors as exit codes."""

from contextlib import AbstractContextManager
from typing import Any

from producer.errors import ProfileError
from producer.terminal import exit_on_error
from worker.settings import Settings, read_settings
from worker.telemetry.logs import configure_logs


def settings_from(options: dict[str, Any]) -> Settings:
    """The settings with a command's options before them; logging is set up by them."""
    with errors_as_exit_codes():
        settings = read_settings(**options)
        configure_logs(settings.log_level, jsonl=settings.jsonl_logging)
    return settings


def errors_as_exit_codes() -> AbstractContextManager[None]:
    """Our errors end the process with one line and a code: a ProfileError's own, 1 for the others."""
    return exit_on_error(lambda error: error.exit_code if isinstance(error, ProfileError) else 1)
