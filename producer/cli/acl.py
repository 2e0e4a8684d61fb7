"""`producer acl`: prints the rule that gives a user of Redis the rights of a role, and no others."""

import click

from producer.cli.exit_status import exit_status
from producer.cli.options import echo_json, json_option, prefix_option
from producer.queue.rights import AclRole, AclServer, rights

_ROLES, _SERVERS = ([one.value for one in kind] for kind in (AclRole, AclServer))


@click.command("acl", no_args_is_help=True)
@click.option(
    "--role", "roles", multiple=True, required=True, type=click.Choice(_ROLES), help="What the user does."
)
@click.option(
    "--server",
    type=click.Choice(_SERVERS),
    default=AclServer.VALKEY.value,
    show_default=True,
    help="Redis 6.2, 7 or 8, or Valkey.",
)
@prefix_option
@click.option("--user", help="Name of the user.  [default: the prefix and the roles]")
@click.option("--without-scan", is_flag=True, help="The user sees no names of keys, also not of its own.")
@json_option
def acl_command(
    *, roles: tuple[str, ...], server: str, prefix: str, user: str | None, without_scan: bool, as_json: bool
) -> None:
    """Print the ACL rule of a user for all queues under the prefix; several roles are added up.

    The rule sets no password: a new user cannot log in until it gets one, and one that has a password keeps
    it. Pass it to redis-cli, then set the password and save:

    \b
        producer acl --role worker --prefix tenant-a | redis-cli
        redis-cli ACL SETUSER tenant-a-worker '>PASSWORD'
        redis-cli ACL SAVE

    Exit status: 0 printed; 2 wrong usage.
    """
    with exit_status():
        given = rights(roles, prefix=prefix, may_scan=not without_scan)
    name = user or "-".join([prefix, *dict.fromkeys(roles)])
    if any(one.isspace() or not one.isprintable() for one in name):
        raise click.UsageError(f"--user {name!r:.80} has spaces or characters that do not print")
    rule = given.rule(AclServer(server))
    if as_json:
        facts = {"user": name, "roles": list(dict.fromkeys(roles)), "server": server, "prefix": prefix}
        allowed = {"commands": given.commands, "keys": given.keys, "channels": given.channels}
        echo_json({**facts, **allowed, "rule": rule})
    else:
        click.echo(" ".join(["ACL SETUSER", *map(_quoted, [name, *rule])]))


def _quoted(word: str) -> str:
    """The word as redis-cli reads it; quotes and backslashes would otherwise be its own."""
    if not any(one in "\"'\\" for one in word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'
