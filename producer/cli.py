"""The `producer` command; each subcommand has a file of its own."""

import click

from producer.cancel_command import cancel
from producer.dead_command import dead
from producer.embed_command import embed
from producer.status_command import status


@click.group(invoke_without_command=True)
@click.version_option(package_name="embedmill")
@click.pass_context
def main(context: click.Context) -> None:
    """Send texts to Embedmill's workers and collect their vectors."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (embed, status, cancel, dead):
    main.add_command(command)

if __name__ == "__main__":
    main()
