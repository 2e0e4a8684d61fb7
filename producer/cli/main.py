"""The `producer` command; each subcommand has a file of its own."""

import click

from producer.cli.cancel import cancel
from producer.cli.dead import dead
from producer.cli.embed import embed
from producer.cli.status import status


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
