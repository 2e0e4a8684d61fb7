"""The `producer` command; each subcommand has its own file."""

import click

from producer.cli.acl import acl_command
from producer.cli.cancel import cancel_command
from producer.cli.dead import dead_group
from producer.cli.embed import embed_command
from producer.cli.jobs import jobs_command
from producer.cli.pause import pause_command, resume_command
from producer.cli.purge import purge_command
from producer.cli.status import status_command


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="embedmill")
@click.pass_context
def main(context: click.Context) -> None:
    """Send texts to Embedmill's workers and collect their vectors."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (
    *(embed_command, status_command, jobs_command, cancel_command, purge_command),
    *(pause_command, resume_command, dead_group, acl_command),
):
    main.add_command(command)

if __name__ == "__main__":
    main()
