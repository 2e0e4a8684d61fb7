"""The rooms of docs/explanation/architecture.md: who may import whom, and what an import costs."""

import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from support.paths import ROOT

INFERENCE = {"onnx", "onnxruntime", "sentence_transformers", "tensorrt", "torch", "transformers", "triton"}
INFERENCE_ROOMS = ("worker.backends.", "worker.engines.", "worker.encoder.")


def imported_by(statement: str) -> set[str]:
    """The top-level modules in memory after `statement` ran in a fresh interpreter."""
    program = f"import sys\n{statement}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return set(ran.stdout.split())


def every_module(package: str) -> str:
    """A statement that imports all modules of a package, except where GPU libraries are at home."""
    return (
        f"import importlib, pkgutil, {package}\n"
        f"for each in pkgutil.walk_packages({package}.__path__, '{package}.'):\n"
        f"    if not each.name.startswith({INFERENCE_ROOMS}) and not each.name.endswith('__main__'):\n"
        f"        importlib.import_module(each.name)"
    )


def test_the_import_rules_hold() -> None:
    """import-linter finds every contract of pyproject.toml kept."""
    program = Path(sys.executable).parent / "lint-imports"
    checked = subprocess.run([program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
    assert "0 broken" in checked.stdout


@pytest.mark.parametrize("package", ["producer", "selection"])
def test_these_rooms_import_no_inference_library_and_no_worker(package: str) -> None:
    """Importing every module of the room loads no inference library and nothing of another room."""
    loaded = imported_by(every_module(package))
    assert package in loaded
    assert not loaded & (INFERENCE | {"arq", "tokenizers", "producer", "selection", "worker"} - {package})


def test_a_client_loads_no_file_library() -> None:
    """Who only submits texts does not pay for pyarrow."""
    assert "pyarrow" not in imported_by("import producer.client, producer.sync, producer.cli.main")


def test_a_worker_loads_an_inference_library_only_when_it_needs_it() -> None:
    """Importing the worker loads none of them: they come with the chosen profile."""
    assert not imported_by(every_module("worker")) & INFERENCE


def test_the_batcher_can_be_understood_alone() -> None:
    """Batching needs numpy and what the contract needs: no queue, no tokenizer, no backend."""
    owners = packages_distributions()
    modules = imported_by("import worker.batching.batcher") - imported_by("pass")
    assert {owner for module in modules for owner in owners.get(module, ())} <= {"numpy", "msgpack"}


def test_architecture_names_every_room() -> None:
    """No folder of the project is missing on the page that explains it."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    packages = {path.parent.name for path in ROOT.glob("[a-z]*/**/__init__.py")}
    folders = {path.name for path in ROOT.glob("[a-z]*") if any(path.glob("*"))}
    rooms = packages | folders - {"build", "demo", "dist", "out"}
    assert {room for room in rooms if room not in page} == set()
