"""The Lua commands of the queue: every file is used, compiles, and says what its arguments are."""

import re
from pathlib import Path

import pytest
from redis.asyncio import Redis
from support.paths import ROOT

from producer.queue import scripts
from producer.queue.scripts import Script

LUA = ROOT / "producer" / "queue" / "lua"
SCRIPTS = {name: one for name, one in vars(scripts).items() if isinstance(one, Script)}
FILES = sorted(path.stem for path in LUA.glob("*.lua"))
INCLUDED = {
    path: re.findall(r'^--- @include "(\w+)"$', path.read_text(), re.MULTILINE) for path in LUA.rglob("*.lua")
}


def header_and_body(name: str) -> tuple[str, str]:
    found = re.fullmatch(r"--\[\[\n(.*?)\n\]\]\n(.*)", (LUA / f"{name}.lua").read_text(), re.DOTALL)
    assert found is not None, "a file begins with a comment block"
    return found[1], found[2]


def test_every_file_is_a_script() -> None:
    """And no script lacks its file."""
    assert sorted(one.name for one in SCRIPTS.values()) == FILES


@pytest.mark.parametrize("constant", SCRIPTS)
def test_every_script_is_used(constant: str) -> None:
    """By the producer or the worker, by the name of its constant."""
    modules = [path for room in ("producer", "worker") for path in (ROOT / room).rglob("*.py")]
    users = [path for path in modules if re.search(rf"\b{constant}\b", path.read_text())]
    assert set(users) - {Path(scripts.__file__)}


def test_every_include_is_included() -> None:
    """And there is no include without a file."""
    there = {path.stem for path in (LUA / "includes").glob("*.lua")}
    assert {name for names in INCLUDED.values() for name in names} == there


@pytest.mark.parametrize("path", INCLUDED, ids=lambda path: path.stem)
def test_a_file_includes_what_it_calls(path: Path) -> None:
    """Each shared function that it calls, and no other."""
    text = path.read_text()
    functions = {other.stem for other in (LUA / "includes").glob("*.lua") if other != path}
    assert {name for name in functions if re.search(rf"\b{name}\(", text)} == set(INCLUDED[path])


@pytest.mark.parametrize("name", FILES)
def test_the_header_names_every_argument(name: str) -> None:
    """In order, by the name under which the body uses it; and says what is returned."""
    header, body = header_and_body(name)
    assert "KEYS[1] root" in header
    assert "Returns" in header
    documented = re.findall(r"^  ARGV\[(\d+)\] (\w+)", header, re.MULTILINE)
    assigned = re.findall(r"^local (\w+) = (?:tonumber\()?ARGV\[(\d+)\]\)?$", body, re.MULTILINE)
    assert documented == [(number, argument) for argument, number in assigned]
    assert [int(number) for number, _ in documented] == list(range(1, len(documented) + 1))
    assert len(re.findall(r"ARGV\[\d", body)) == len(assigned), "an argument has a name before it is used"
    rest = re.findall(r"^  ARGV\[(\d+)\.\.\.\]", header, re.MULTILINE)
    assert rest == re.findall(r"for i = (\d+), #ARGV", body)
    assert all(int(number) == len(documented) + 1 for number in rest)


def test_an_include_comes_once() -> None:
    """Though two others include it as well; and comments are not sent."""
    source = Script("finish_with_dead_letter").source
    assert source.count("local function server_time()") == 1
    assert source.index("local function server_time()") < source.index("local function keep_dead_letter(")
    assert "--" not in source.replace(" -- ", "")


@pytest.mark.every_server
@pytest.mark.parametrize("name", FILES)
async def test_every_script_compiles(redis: Redis, name: str) -> None:
    """On every server."""
    assert len(await redis.script_load(Script(name).source)) == 40
