"""Every redis-py that we allow has what the transport needs: the installed, the oldest and the newest one."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from support import redis_check
from support.paths import ROOT

from producer.embedded.services import EmbeddedServer

pytestmark = pytest.mark.every_server


async def test_the_installed_one(server: EmbeddedServer) -> None:
    """Whichever it is."""
    await redis_check.check(server.url)


def pip(python: Path | str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def oldest() -> str:
    """The first version that pyproject.toml allows."""
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (needed,) = [found for found in map(Requirement, dependencies) if found.name == "redis"]
    (bound,) = needed.specifier
    assert bound.operator == ">=", "only the oldest is bounded"
    return str(Version(bound.version))


@pytest.mark.slow
@pytest.mark.first_server
@pytest.mark.timeout(300)
@pytest.mark.parametrize("which", ["oldest", "newest"])
def test_another_one(server: EmbeddedServer, which: str, tmp_path: Path) -> None:
    """In an environment of its own; the newest beside the newest Celery."""
    wanted = [f"redis=={oldest()}"] if which == "oldest" else ["celery[redis]"]
    if pip(sys.executable, "download", "--no-deps", "--dest", str(tmp_path / "probe"), *wanted).returncode:
        pytest.skip("the package index cannot be reached")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    installed = pip(python, "install", "--upgrade", str(ROOT), *wanted)
    assert installed.returncode == 0, installed.stderr
    agreed = pip(python, "check")
    assert agreed.returncode == 0, agreed.stdout
    checked = subprocess.run(
        [python, "-W", "error", "-m", "support.redis_check", server.url],
        env={"PYTHONPATH": str(ROOT / "tests")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert (oldest() in checked.stdout) is (which == "oldest"), checked.stdout
