"""`producer cancel`: cancels jobs by their ids or by their run."""

import sys

import click

from producer.cli.exit_status import ExitStatus, exit_status
from producer.cli.options import each_of, echo_json, json_option, queue_options, with_client
from producer.client import Client
from producer.contract import run_name


@click.command("cancel", no_args_is_help=True)
@click.argument("jobs", metavar="[JOB...]", nargs=-1)
@click.option(
    "--run", help="Cancel the jobs of this run, except those that another run or caller also wants."
)
@json_option
@queue_options
def cancel_command(jobs: tuple[str, ...], run: str | None, as_json: bool, **queue: str) -> None:
    """Cancel pending and running jobs; all who await one get the failure `cancelled`.

    \b
    Exit status: 0 all were cancelled, or left to others who want them;
    1 some jobs, or all of the run's, were not on the queue; 3 trouble with the queue.
    """
    if bool(jobs) == (run is not None):
        raise click.UsageError("give either job ids or --run")
    with exit_status():
        run = None if run is None else run_name(run)

    async def cancel(client: Client) -> bool:
        if run is None:
            return await each_of(
                jobs, client.cancel, done="cancelled", absent="not on the queue", as_json=as_json
            )
        return await _cancel_run(client, run, as_json=as_json)

    if not with_client(cancel, **queue):
        sys.exit(ExitStatus.NOT_FOUND)


async def _cancel_run(client: Client, run: str, *, as_json: bool) -> bool:
    cancelled = await client.cancel_run(run)
    num_ended, num_left = cancelled.num_ended, cancelled.num_left
    if as_json:
        echo_json({"run": run, "cancelled": num_ended, "left": num_left})
        return num_ended + num_left > 0
    if num_ended + num_left == 0:
        click.echo(f"run {run}: no jobs on the queue", err=True)
        return False
    left = f", {num_left:,} left to others who also want them" if num_left else ""
    click.echo(f"run {run}: {num_ended:,} jobs cancelled{left}")
    return True
