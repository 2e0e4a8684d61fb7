"""How a `producer` command ends: one line for an error, and an exit status that says whose fault it was."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from enum import IntEnum

import click

from producer.cli.signals import Interrupted
from producer.errors import EmbedmillError, FileError, RequestError, SettingsError
from producer.terminal import exit_on_error


class ExitStatus(IntEnum):
    """The exit statuses of the `producer` command."""

    OK = 0
    TEXTS_FAILED = 1  #: the output is complete, but some texts have no vector
    NOT_FOUND = 1  #: some of the jobs named do not exist
    JOBS_GIVEN_UP = 1  #: the run has ended, but some of its jobs are dead letters
    USAGE = 2  #: wrong options, or files that cannot be read or written
    SERVICE = 3  #: trouble with the queue or a worker
    FAULT = 4  #: a fault of the program itself
    INTERRUPTED = 130
    TERMINATED = 143


@contextlib.contextmanager
def exit_status() -> Iterator[None]:
    """Turn errors into one line on stderr and an exit status; SIGINT and SIGTERM end cleanly.

    An error that is none of ours never looks like texts that failed, and its message, which may hold a text,
    is not shown.
    """
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
    except MemoryError:
        click.echo("error [out_of_memory]: out of memory; lower --batch-texts or --max-in-flight", err=True)
        sys.exit(ExitStatus.SERVICE)
    except click.ClickException:
        raise
    except Exception as fault:
        frames = traceback.extract_tb(fault.__traceback__)
        places = " < ".join(f"{frame.filename}:{frame.lineno}" for frame in reversed(frames[-4:]))
        click.echo(
            f"error [internal]: {type(fault).__name__} at {places}; this is a fault of the program, please "
            "report it with this line",
            err=True,
        )
        sys.exit(ExitStatus.FAULT)
    finally:
        signal.signal(signal.SIGTERM, previous)


def print_lines(lines: Iterable[str]) -> None:
    """Print to standard output. Raises FileError if it is full; whoever closed it does not want more."""
    try:
        click.echo("\n".join(lines))
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        raise FileError(
            f"standard output cannot be written ({error.strerror}); the run itself is done"
        ) from error


def _drop_output() -> None:
    """Have what is still buffered go nowhere, instead of failing again at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _status_of(error: EmbedmillError) -> ExitStatus:
    is_callers = isinstance(error, RequestError | SettingsError)
    return ExitStatus.USAGE if is_callers else ExitStatus.SERVICE
