"""Directories of models as sentence-transformers writes them."""

import json
from pathlib import Path
from typing import Any


def write(directory: Path, name: str, content: Any) -> None:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
