"""Reads the JSON files that describe a model."""

import json
from pathlib import Path
from typing import Any

from producer.errors import ModelError


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model's directory. Raises ModelError if it cannot be read."""
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(
            f"{path.name} cannot be read from {path.parent} ({error.strerror}); the model is incomplete, "
            "download it again"
        ) from error
    except ValueError as error:
        raise ModelError(f"{path} is not valid JSON; download the model again") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} contains a {type(found).__name__}, not an object; download the model again")
    return found
