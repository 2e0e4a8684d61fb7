"""The `worker` command; each subcommand has its own module, imported on demand."""

from importlib import import_module
from typing import Any

import click

from worker.cli.entry import errors_as_exit_codes

_COMMANDS = {
    "build-engines": "build_engines:build_engines_command",
    "cache": "cache:cache_command",
    "check": "check:check_command",
    "convert": "convert:convert_command",
    "download-to-cache": "download_to_cache:download_to_cache_command",
    "explain": "explain:explain_command",
    "list-models": "list_models:list_models_command",
    "list-profiles": "list_profiles:list_profiles_command",
    "measure": "measure:measure_command",
    "run": "run:run_command",
    "run-one": "run_one:run_one_command",
    "top": "top:top_command",
}
_ALIASES = {"list-model-profiles": "list-profiles"}  # NIM's name


class _Commands(click.Group):
    """Imports subcommands on demand, and turns Embedmill's errors into one line and an exit code."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        found = _COMMANDS.get(_ALIASES.get(name, name))
        if found is None:
            return None
        module, _, command = found.partition(":")
        loaded: click.Command = getattr(import_module(f"worker.cli.{module}"), command)
        return loaded

    def invoke(self, context: click.Context) -> Any:
        with errors_as_exit_codes():
            return super().invoke(context)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embedmill")
def main() -> None:
    """Serve an embedding model from a Redis queue, with the best profile for this machine."""
