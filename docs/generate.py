"""Fill in the generated blocks of docs/reference from the code: commands, settings, models, and so on.

python docs/generate.py            rewrite the blocks
python docs/generate.py --check    exit 1 if one is stale

A block lies between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of a page is written by hand.
"""

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
BLOCK = re.compile(r"(<!-- generated: ([\w.-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
# A default of one of these types is worth showing; others are None, flags and click's marks for "not given".
SHOWN_DEFAULTS = (str, int, float)


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""
    heads = list(headings)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def commands(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """The command and all below it that are not hidden, each with its full name."""
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=name)
        for each in command.list_commands(context):
            below = command.get_command(context, each)
            if below is not None and not below.hidden:
                yield from commands(below, f"{name} {each}")


def cli(main: click.Command, name: str) -> str:
    """One section per command: its help, then its options."""
    sections = []
    for full_name, command in commands(main, name):
        arguments = [one for one in command.params if isinstance(one, click.Argument)]
        usage = " ".join([full_name, *(one.human_readable_name for one in arguments)])
        text = inspect.cleandoc(command.help or "").replace("\b\n", "")
        options = [one for one in command.params if isinstance(one, click.Option) and not one.hidden]
        rows = [(_spelling(one), _option_help(one)) for one in options]
        sections.append(f"### `{usage}`\n\n{text}\n")
        if rows:
            sections.append(table(["option", "meaning"], rows))
    return "\n".join(sections)


def _spelling(option: click.Option) -> str:
    names = ", ".join([*option.opts, *option.secondary_opts])
    if option.is_flag:
        return f"`{names}`"
    if isinstance(option.type, click.Choice):
        return f"`{names}` " + ", ".join(f"`{getattr(one, 'value', one)}`" for one in option.type.choices)
    return f"`{names} {option.metavar or option.type.name.removesuffix(' range').upper()}`"


def _option_help(option: click.Option) -> str:
    parts = [option.help or ""]
    if option.required:
        parts.append("Required.")
    default = getattr(option.default, "value", option.default)
    if option.show_default and type(default) in SHOWN_DEFAULTS:
        parts.append(f"Default: `{default}`.")
    if option.envvar:
        parts.append(f"Or `{option.envvar}`.")
    return " ".join(filter(None, parts))


def settings() -> str:
    """Every setting of a worker: environment variables, default, meaning."""
    from pydantic import AliasChoices

    from worker.settings import Settings

    def row(name: str) -> Iterator[str]:
        field = Settings.model_fields[name]
        assert isinstance(field.validation_alias, AliasChoices)
        yield "<br>".join(f"`{one}`" for one in field.validation_alias.choices)
        yield DEFAULTS[name] if name in DEFAULTS else _default(field.default)
        yield field.description or ""

    return table(["variable", "default", "meaning"], map(row, Settings.model_fields))


# What stands for a default that is computed, or for None where that has a name.
DEFAULTS = {"model": "`all-MiniLM-L6-v2`", "workers_per_gpu": "`auto`"}


def _default(value: Any) -> str:
    if value is None or value == "":
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def errors() -> str:
    """The tree of errors, depth first: class, code, parent, meaning."""
    from producer.errors import EmbedmillError

    def rows(kind: type[EmbedmillError]) -> Iterator[list[str]]:
        meaning = (inspect.getdoc(kind) or "").splitlines()[0]
        parent = kind.__base__
        yield [f"`{kind.__name__}`", f"`{kind.code}`", f"`{parent.__name__}`" if parent else "", meaning]
        for below in kind.__subclasses__():
            if below.__module__ == EmbedmillError.__module__:
                yield from rows(below)

    return table(["class", "code", "is a", "meaning"], rows(EmbedmillError))


def redis_keys() -> str:
    """Every key and channel of a queue: name, type, content, end; from the docstrings of Keys."""
    from producer.contract import Keys

    def row(name: str, of: Any) -> Iterator[str]:
        member: Any = of.fget if isinstance(of, property) else of
        [given] = list(inspect.signature(member).parameters)[1:] or [""]
        value = member(keys, f"<{given}>") if given else member(keys)
        kind, _, told = " ".join((member.__doc__ or "").split()).partition(": ")
        what, _, ends = told.partition(" Ends: ")
        yield f"`{value.removeprefix(keys.root)}`"
        yield from (kind, what.removesuffix("."), ends.removesuffix("."))

    keys = Keys("queue")
    members = {name: of for name, of in vars(Keys).items() if not name.startswith("_")}
    rows = (row(name, of) for name, of in members.items() if name not in ("queue", "prefix", "root"))
    return table(["key", "type", "what", "ends"], rows)


def metrics(which: str) -> str:
    """Metrics of the worker processes, of the queue or of the host, as Prometheus names them."""
    from worker.telemetry import prometheus

    tables = {
        "worker": (*prometheus.WORKER_METRICS, prometheus.PROFILE_INFO),
        "queue": (prometheus.QUEUE_UP, *prometheus.QUEUE_METRICS),
        "host": prometheus.SUPERVISOR_METRICS,
    }
    rows = [
        (
            f"`{prometheus.PREFIX}{one.name}{'_total' if one.kind == 'counter' else ''}`",
            one.kind,
            f"`{one.label}`" if one.label else "",
            one.help,
        )
        for one in tables[which]
    ]
    return table(["metric", "type", "extra label", "meaning"], rows)


def api() -> str:
    """Every public name of `producer`: signature and docstring, read from the source."""
    import producer

    sections = []
    for name in producer.__all__:
        home = getattr(producer, name).__module__
        path = ROOT.joinpath(*home.split(".")).with_suffix(".py")
        path = path if path.exists() else path.with_suffix("") / "__init__.py"
        source = path.read_text()
        [found] = [
            node for node in ast.parse(source).body if isinstance(node, ast.ClassDef) and node.name == name
        ]
        sections.append(_class(found, source.splitlines()))
    return "\n".join(sections)


def _class(node: ast.ClassDef, lines: list[str]) -> str:
    """A class with its fields and public methods, as they stand in the source."""
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign | ast.Assign)]
    members = [_lines(lines, one.lineno, one.end_lineno or one.lineno) for one in fields]
    methods = [one for one in node.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
    public = [one for one in methods if not one.name.startswith("_") or one.name == "__init__"]
    parts = [f"## `{node.name}`", ast.get_docstring(node) or ""]
    parts += [f"```python\n{chr(10).join(members)}\n```"] if members else []
    for one in public:
        header = _lines(lines, one.lineno, one.body[0].lineno - 1)
        parts += [f"```python\n{header} ...\n```", ast.get_docstring(one) or ""]
    return "\n\n".join(filter(None, parts)) + "\n"


def _lines(lines: list[str], first: int, last: int) -> str:
    return inspect.cleandoc("\n".join(lines[first - 1 : last]))


def rights() -> str:
    """What each role may do with each key, and the commands that it may send."""
    from producer.queue.rights import AclRole
    from producer.queue.rights import rights as rights_of

    given = {role: rights_of([role]) for role in AclRole}
    patterns = dict.fromkeys(pattern for each in given.values() for pattern in each.keys)
    rows = [
        (f"`{one.partition('}:')[2] or '(root)'}`", *(each.keys.get(one, "") for each in given.values()))
        for one in patterns
    ]
    commands = (f"- {role}: {' '.join(f'`{one}`' for one in each.commands)}" for role, each in given.items())
    return table(["key", *given], rows) + "\n" + "\n".join(commands) + "\n"


def _worker_cli() -> str:
    from worker.cli.main import main

    return cli(main, "worker")


def _producer_cli() -> str:
    from producer.cli.main import main

    return cli(main, "producer")


def models() -> str:
    """The models whose files the tests imitate: family, who computes their vectors, and the proof."""
    sys.path.insert(0, str(ROOT / "tests"))
    from support.look_alikes.catalog import model_counts, model_rows

    headings = ["model", "family", "served by", "what its files have", "look-alike"]
    return f"{model_counts()}\n\n{table(headings, model_rows())}"


BLOCKS: dict[str, Callable[[], str]] = {
    "api": api,
    "cli.producer": _producer_cli,
    "cli.worker": _worker_cli,
    "errors": errors,
    "metrics.host": lambda: metrics("host"),
    "metrics.queue": lambda: metrics("queue"),
    "metrics.worker": lambda: metrics("worker"),
    "models": models,
    "redis-keys": redis_keys,
    "rights": rights,
    "settings": settings,
}


def filled(page: str) -> str:
    """The page with every block made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]().strip()}\n{found[3]}", page)


def main() -> None:
    """Rewrite the pages, or check them."""
    check = sys.argv[1:] == ["--check"]
    pages = {path: path.read_text() for path in sorted(REFERENCE.glob("*.md"))}
    stale = {path: new for path, old in pages.items() if (new := filled(old)) != old}
    for path, new in stale.items():
        if not check:
            path.write_text(new)
        sys.stdout.write(f"{'stale' if check else 'rewritten'}: {path.relative_to(ROOT)}\n")
    if check and stale:
        sys.exit("run `make docs` (python docs/generate.py) and commit the result")


if __name__ == "__main__":
    main()
