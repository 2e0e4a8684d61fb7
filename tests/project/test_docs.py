"""The pages: links lead somewhere, what they name exists, the README stays short."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.paths import ROOT

PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    ROOT / "profiles" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
ARCHITECTURE = (ROOT / "docs/explanation/architecture.md").read_text()
SOURCE = re.compile(r"`((?:producer|worker|selection|tests)/[\w/]+(?:\{[\w,]+\})?\.\w+)`")


def sources(text: str) -> set[str]:
    """The source files that a text names; `worker/{a,b}.py` are two."""
    named = set()
    for path in SOURCE.findall(text):
        folder, brace, rest = path.partition("{")
        stems, _, suffix = rest.partition("}")
        named |= {f"{folder}{stem}{suffix}" for stem in stems.split(",")} if brace else {path}
    return named


def links(page: Path) -> Iterator[tuple[Path, str]]:
    """The relative links of a page outside of code: target file and anchor."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:", "mailto:")):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link names a file of the checkout, and its anchor a heading there."""
    for target, anchor in links(page):
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    """Whoever starts at docs/README.md, or at the lab's index, finds every page."""
    found = {ROOT / "docs/README.md"}
    for index in (ROOT / "docs/README.md", ROOT / "docs/lab/README.md"):
        found |= {target for target, _ in links(index)}
    assert set((ROOT / "docs").rglob("*.md")) <= found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_modules_to_run_exist(page: Path) -> None:
    """Every `python -m` of ours is a module."""
    named = re.findall(r"python -m ((?:benchmarks|producer|worker|selection)[\w.]*)", page.read_text())
    for module in {name.rstrip(".") for name in named}:
        assert importlib.util.find_spec(module) is not None, module


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_benchmarks_and_tests_exist(page: Path) -> None:
    """Every `benchmarks.module` and every path into tests/ that a page names is there."""
    text = page.read_text()
    for module in set(re.findall(r"\bbenchmarks(?:\.\w+)+", text)):
        assert ROOT.joinpath(*module.split(".")).with_suffix(".py").exists(), module
    for path in set(re.findall(r"\btests/[\w/.]*\w", text)):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_named_metrics_and_variables_exist(page: Path) -> None:
    """What a page tells people to watch or to set is there; the changelog may name what has gone."""
    if page.name == "CHANGELOG.md":
        return
    text = page.read_text()
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    metrics = {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(r"embedmill_[a-z]\w+", text)}
    assert {name for name in metrics if f"`{name}`" not in reference} == set()
    known = (ROOT / "docs/reference/settings.md").read_text()
    variables = set(re.findall(r"\b(?:EMBEDMILL|NIM)_[A-Z_]*[A-Z]\b", text))
    assert {name for name in variables if f"`{name}`" not in known} == set()


def test_pages_named_in_the_code_exist() -> None:
    """A docstring that sends its reader to docs/ sends them to a page."""
    folders = ("benchmarks", "deploy", "examples", "producer", "profiles", "selection", "tests", "worker")
    suffixes = {".py", ".lua", ".md", ".yaml", ".json", ".cu"}
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    named = {page for path in files for page in re.findall(r"\bdocs/[\w/]+\.md\b", path.read_text())}
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []


def test_architecture_names_files_that_exist() -> None:
    """No file on the page has moved away."""
    assert [path for path in sorted(sources(ARCHITECTURE)) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("package", ["producer", "worker"])
def test_the_layers_are_those_that_import_linter_holds(package: str) -> None:
    """The page has the rooms in the order of the contracts."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    [layers] = [one["layers"] for one in linter["contracts"] if one.get("containers") == [package]]
    told = re.search(rf"^    {package}: (.+?)\n\n", ARCHITECTURE, re.MULTILINE | re.DOTALL)
    assert told is not None
    assert " ".join(told[1].split()) == " > ".join(layers)


@pytest.mark.parametrize("section", ["The way of one text", "The way of a model", "The way of a death"])
def test_the_ways_are_as_long_as_they_say(section: str) -> None:
    """The number of files that each way tells is that of the files in its steps."""
    text = ARCHITECTURE.split(f"## {section}\n")[1].split("\n## ")[0]
    told = re.search(r"in (\d+) files", text)
    steps = "\n".join(re.findall(r"^(?:\d+\.| {3}).*", text, re.MULTILINE))
    assert told is not None
    assert int(told[1]) == len(sources(steps))


def test_the_readme_is_short() -> None:
    """At most 600 words: what, why, how to try it, where to read on."""
    assert len((ROOT / "README.md").read_text().split()) <= 600


def test_pre_commit_runs_the_ruff_of_the_constraints() -> None:
    """The hook and `make lint` agree."""
    [pinned] = re.findall(r"^ruff==(.+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["rev"] for repo in repos if "ruff" in repo["repo"]] == [f"v{pinned}"]


def test_ci_knows_the_pythons_of_the_project() -> None:
    """The workflow runs on every version that pyproject.toml names, and calls .ci/run."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    named = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    job = workflow["jobs"]["test"]
    assert set(job["strategy"]["matrix"]["python"]) == set(named)
    assert any(".ci/run" in step.get("run", "") for step in job["steps"])
