"""The `producer` command; each subcommand has a file of its own."""

import click

from producer.embed_command import embed


@click.group(invoke_without_command=True)
@click.version_option(package_name="embedmill")
@click.pass_context
def main(context: click.Context) -> None:
    """Send texts to Embedmill's workers and collect their vectors."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


main.add_command(embed)

if __name__ == "__main__":
    main()
