"""`producer purge`: empties a queue of its pending jobs, or of its dead letters."""

import sys

import click

from producer.cli.options import echo_json, json_option, queue_options, with_client
from producer.client import Client
from producer.contract import queue_name


@click.command("purge")
@click.option("--run", help="Only jobs of this run, except those that another run or caller also wants.")
@click.option("--dead", is_flag=True, help="Delete the dead letters instead of pending jobs.")
@click.option("--yes", is_flag=True, help="Do not ask; needed where nobody can be asked.")
@json_option
@queue_options
def purge_command(run: str | None, dead: bool, yes: bool, as_json: bool, **queue: str) -> None:
    """Cancel the pending jobs of a model or of a run, or delete the dead letters.

    All who await a purged job get the failure `cancelled`. Jobs that run go on; `producer cancel` ends those.

    \b
    Exit status: 0 done, also if there was nothing to purge; 2 wrong usage, or nobody could be asked;
    3 trouble with the queue; 1 the answer was no.
    """
    if dead and run is not None:
        raise click.UsageError("give either --run or --dead")
    name = queue_name(queue["model"])
    if not yes:
        _ask(f"the dead letters of queue {name}" if dead else _pending_jobs(run, name))

    async def purge(client: Client) -> dict[str, int]:
        if dead:
            return {"dropped": len(await client.drop_all())}
        purged = await client.purge(run=run)
        return {"cancelled": purged.num_ended, "left": purged.num_left}

    counts = with_client(purge, **queue)
    if as_json:
        echo_json({"queue": name, **counts})
        return
    what = "dead letters" if dead else "pending jobs"
    told = ", ".join(f"{count:,} {what} {outcome}" for outcome, count in counts.items() if outcome != "left")
    if counts.get("left"):
        told += f", {counts['left']:,} left to others who also want them"
    click.echo(f"queue {name}: {told}")


def _pending_jobs(run: str | None, queue: str) -> str:
    return f"the pending jobs of queue {queue}" + ("" if run is None else f" that only the run {run} wants")


def _ask(what: str) -> None:
    """Ends the command unless somebody at the terminal says yes."""
    if not sys.stdin.isatty():
        raise click.UsageError(f"this would purge {what}; there is no terminal to ask, so give --yes")
    click.confirm(f"purge {what}?", abort=True, err=True)
