"""The distribution: what is in the wheel, and what installing it brings along."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_string
from email.message import Message
from importlib.metadata import PackageNotFoundError, distribution, entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

PACKAGES = {"producer", "profiles", "selection", "worker"}
INFERENCE = {
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "safetensors",
    "sentence-transformers",
    "tensorrt",
    "tensorrt-rtx",
    "tokenizers",
    "torch",
    "transformers",
}


def docker_context() -> list[str]:
    """The top-level names that .dockerignore lets through."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("!") for line in lines if line.startswith("!")]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from nothing but what Docker gets to see."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in docker_context():
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name)
        else:
            shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(target)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (path,) = target.iterdir()
    return zipfile.ZipFile(path)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    """What the wheel says about itself."""
    (path,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    return message_from_string(wheel.read(path).decode())


def closure(metadata: Message, *extras: str) -> set[str]:
    """The distributions that an installation brings along, at any depth.

    What a distribution needs is known if it is installed here; if not, at least itself is named.
    """
    found: set[tuple[str, frozenset[str]]] = set()
    waiting = {("embedmill", frozenset(extras))}
    while waiting:
        name, wanted = current = waiting.pop()
        found.add(current)
        for requirement in map(Requirement, requirements(metadata, name)):
            environments = [{"extra": extra} for extra in ("", *wanted)]
            if not requirement.marker or any(map(requirement.marker.evaluate, environments)):
                waiting.add((canonicalize_name(requirement.name), frozenset(requirement.extras)))
        waiting -= found
    return {name for name, _ in found}


def requirements(metadata: Message, name: str) -> list[str]:
    if name == "embedmill":
        return metadata.get_all("Requires-Dist", [])
    try:
        return distribution(name).requires or []
    except PackageNotFoundError:
        return []


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Four folders and the metadata: no tests, no examples, no compiled files."""
    names = wheel.namelist()
    folders = {name.split("/")[0] for name in names}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == PACKAGES
    assert not [name for name in names if name.endswith((".pyc", ".pyo")) or "/test_" in name]


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_the_wheel_holds_every_file(wheel: zipfile.ZipFile, package: str) -> None:
    """No module, type marker or profile is left out."""
    files = [path for path in (ROOT / package).rglob("*") if path.is_file() and path.suffix != ".pyc"]
    expected = {path.relative_to(ROOT).as_posix() for path in files}
    assert expected
    assert expected == {name for name in wheel.namelist() if name.startswith(f"{package}/")}


def test_the_wheel_carries_the_licence(wheel: zipfile.ZipFile, metadata: Message) -> None:
    """The Apache licence is in the metadata, as text and as name."""
    names = wheel.namelist()
    (licence,) = [name for name in names if name.endswith(".dist-info/licenses/LICENSE")]
    assert wheel.read(licence) == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"


def test_a_producer_installs_no_inference_library(metadata: Message) -> None:
    """Nothing that the base dependencies need, directly or not, can run a model."""
    brought = closure(metadata)
    assert {"redis", "numpy"} <= brought
    assert not brought & (INFERENCE | {"arq"})


def test_a_cpu_worker_installs_no_torch(metadata: Message) -> None:
    """The CPU worker, the demo and the development tools run a model without PyTorch."""
    for extra in ("cpu", "demo", "dev"):
        brought = closure(metadata, extra)
        assert {"onnxruntime", "tokenizers"} <= brought
        assert not brought & {"torch", "transformers", "sentence-transformers", "tensorrt"}


def test_the_comparison_brings_torch(metadata: Message) -> None:
    """The closure above can find it: the libraries we are compared with need PyTorch."""
    assert "sentence-transformers" in closure(metadata, "peers")
    assert "torch" in closure(metadata, "torch")


@pytest.mark.parametrize(
    ("program", "home"), [("producer", "producer.cli.main:main"), ("worker", "worker.__main__:start")]
)
def test_programs_exist(program: str, home: str) -> None:
    """The installed commands lead to functions that exist."""
    (script,) = entry_points(group="console_scripts", name=program)
    assert script.value == home
    assert callable(script.load())


def test_the_version_is_in_the_changelog() -> None:
    """The changelog has a section for the version in pyproject.toml."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_producer_alone_can_be_installed_and_imported(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    """The wheel without extras gives a client and a command in a new environment, and no inference."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel.filename)], check=True)
    look = "import producer.client, producer.sync; from importlib.metadata import distributions as d; " + (
        "print(*(each.name.lower() for each in d()))"
    )
    found = subprocess.run([python, "-c", look], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert "embedmill" in found.stdout.split()
    assert not set(found.stdout.split()) & INFERENCE
    subprocess.run([tmp_path / "venv" / "bin" / "producer", "--help"], check=True, capture_output=True)
    worker = subprocess.run(
        [tmp_path / "venv" / "bin" / "worker"], capture_output=True, text=True, check=False
    )
    assert worker.returncode == 1
    extras = r"embedmill\[cpu\], embedmill\[torch\] or embedmill\[gpu\]"
    said = rf"error \[bad_settings\]: a worker needs \w+; install {extras}\n"
    assert re.fullmatch(said, worker.stderr)
