"""How a `producer` command ends: one line for an error, and an exit status that says whose fault it was."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from enum import IntEnum

import click

from producer.cli.signals import Interrupted
from producer.errors import EmbedmillError, RequestError, SettingsError
from producer.terminal import exit_on_error


class ExitStatus(IntEnum):
    """The exit statuses of the `producer` command."""

    OK = 0
    TEXTS_FAILED = 1  #: the output is complete, but some texts have no vector
    NOT_FOUND = 1  #: some of the jobs named do not exist
    JOBS_GIVEN_UP = 1  #: the run has ended, but some of its jobs are dead letters
    USAGE = 2  #: wrong options, or files that cannot be read or written
    SERVICE = 3  #: trouble with the queue or a worker
    INTERRUPTED = 130
    TERMINATED = 143


@contextlib.contextmanager
def exit_status() -> Iterator[None]:
    """Turn our errors into one line on stderr and an exit status; SIGINT and SIGTERM end cleanly."""
    previous = signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitStatus.TERMINATED))
    try:
        with exit_on_error(_status_of):
            yield
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(ExitStatus.INTERRUPTED)
    except Interrupted as end:
        is_terminated = end.number == signal.SIGTERM
        click.echo("terminated" if is_terminated else "interrupted", err=True)
        sys.exit(ExitStatus.TERMINATED if is_terminated else ExitStatus.INTERRUPTED)
    finally:
        signal.signal(signal.SIGTERM, previous)


def _status_of(error: EmbedmillError) -> ExitStatus:
    is_callers = isinstance(error, RequestError | SettingsError)
    return ExitStatus.USAGE if is_callers else ExitStatus.SERVICE
