"""`producer cancel`: jobs taken off their queue."""

import sys

import click

from producer.client import Client
from producer.exit_status import ExitStatus
from producer.queue_options import each_of, queue_options, with_client


@click.command(no_args_is_help=True)
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True)
@queue_options
def cancel(jobs: tuple[str, ...], **queue: str) -> None:
    """End waiting and running jobs; they are answered with the failure `cancelled`.

    Exit status: 0 all were ended; 1 some were not on the queue; 3 trouble with the queue.
    """

    async def end(client: Client) -> bool:
        return await each_of(jobs, client.cancel, done="cancelled", absent="not on the queue")

    if not with_client(end, **queue):
        sys.exit(ExitStatus.NOT_THERE)
