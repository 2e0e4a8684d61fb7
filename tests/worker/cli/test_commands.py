"""The `worker` command as a whole: what its help shows, and what asking for it costs."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from worker.cli.main import main

CONTEXT = click.Context(main)


def commands() -> list[click.Command]:
    """All commands, those of groups included."""
    found = []
    for name in main.list_commands(CONTEXT):
        command = main.get_command(CONTEXT, name)
        assert command is not None
        found += [command, *(command.commands.values() if isinstance(command, click.Group) else ())]
    return found


def test_the_list_of_commands_cuts_no_sentence() -> None:
    """On 80 columns; what is not for people is not shown."""
    for group in ([], ["cache"]):
        listed = CliRunner().invoke(main, [*group, "--help"]).output.partition("Commands:")[2]
        assert "run-one" not in listed
        assert listed
        assert "..." not in listed


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_everything_has_help(command: click.Command) -> None:
    """Every command, and every option that people may give."""
    assert command.help
    options = [each for each in command.params if isinstance(each, click.Option)]
    assert command.hidden or [each.name for each in options if not each.help] == []


def test_an_unknown_command_is_refused() -> None:
    """With click's status for wrong usage."""
    refused = CliRunner().invoke(main, ["no-such-command"])
    assert (refused.exit_code, "No such command" in refused.output) == (2, True)


def test_one_command_does_not_load_the_others() -> None:
    """A worker process needs neither the libraries of `top` nor those of `build-engines`."""
    program = (
        "import sys; from worker.cli.main import main\n"
        "try: main(['run-one', '--help'])\n"
        "except SystemExit: pass\n"
        "print(*{'rich.live', 'worker.cli.top', 'worker.engines.builder'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
