"""Where the project and the tests' data lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
MACHINES = DATA / "machines"
GOLDEN = DATA / "golden" / "minilm_texts.npz"
