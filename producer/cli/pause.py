"""`producer pause` and `producer resume`: let the workers of a queue claim nothing for a while."""

import click

from producer.cli.options import duration_option, echo_json, json_option, queue_options, with_client
from producer.contract import queue_name
from producer.terminal import format_duration


@click.command("pause")
@duration_option("--for", "for_s", help="Resume by itself after this time, such as 10m.")
@json_option
@queue_options
def pause_command(for_s: float | None, as_json: bool, **queue: str) -> None:
    """Let no worker claim a job of the queue until it is resumed; jobs that run go on.

    Jobs can be enqueued meanwhile. A second pause replaces the first.

    Exit status: 0 it is paused; 2 wrong usage; 3 trouble with the queue.
    """
    with_client(lambda client: client.pause(for_s=for_s), **queue)
    name = queue_name(queue["model"])
    if as_json:
        echo_json({"queue": name, "paused": True, "resumes_in_s": for_s})
    else:
        until = "until `producer resume`" if for_s is None else f"for {format_duration(for_s)}"
        click.echo(f"queue {name}: paused {until}")


@click.command("resume")
@json_option
@queue_options
def resume_command(as_json: bool, **queue: str) -> None:
    """Let the workers of a paused queue claim jobs again, at once.

    Exit status: 0 it is not paused, even if it was not before; 3 trouble with the queue.
    """
    was_paused = with_client(lambda client: client.resume(), **queue)
    name = queue_name(queue["model"])
    if as_json:
        echo_json({"queue": name, "paused": False, "was_paused": was_paused})
    else:
        click.echo(f"queue {name}: {'resumed' if was_paused else 'was not paused'}")
