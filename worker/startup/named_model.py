"""Refuses names behind which there can be no model, before anything is chosen for it."""

import difflib
import re
from pathlib import Path

from producer.errors import ModelError
from selection.manifests.catalog import shipped_models
from selection.manifests.manifest import ModelCard
from worker.models.other_kinds import refuse_other_formats

_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
_DESCRIPTIONS = ("config.json", "modules.json")


def refuse_unknown(card: ModelCard) -> None:
    """Raise ModelError if a model without a manifest is neither a directory nor a name of the hub's form."""
    source = card.sources[0]
    if source.startswith("dir:"):
        refuse_absent(source)
    elif not _ON_HUB.fullmatch(source.removeprefix("hf:")):
        raise ModelError(
            f"there is no model {card.name!r:.80}: no manifest has that name, no directory is called so, and "
            f"a model on the Hugging Face hub is written <org>/<name>; {_nearest(card.name)}"
        )


def refuse_absent(source: str) -> None:
    """Raise ModelError if `dir:<path>` is no directory with a model. Its files are not read."""
    directory = Path(source.removeprefix("dir:")).expanduser()
    if not directory.is_dir():
        raise ModelError(
            f"there is no directory {directory}; name one that contains a model, or a model on the Hugging "
            "Face hub as <org>/<name>"
        )
    refuse_other_formats(directory)
    if not any((directory / name).is_file() for name in _DESCRIPTIONS):
        raise ModelError(
            f"{directory} has no {' or '.join(_DESCRIPTIONS)}, so it is no model's directory; name the one "
            "that contains these files, or EMBEDMILL_CUSTOM_MODEL for an ONNX graph"
        )


def hub_folder(source: str, cache: Path) -> Path | None:
    """The folder in which the cache below `cache` keeps `hf:<org>/<name>`; None for another source."""
    if not source.startswith("hf:"):
        return None
    name = source.removeprefix("hf:").partition("@")[0]
    return cache / f"models--{name.replace('/', '--')}"


def _nearest(name: str) -> str:
    """The shipped names that look like it."""
    cards = [manifest.model for manifest in shipped_models()]
    names = {
        each.lower(): card.name for card in cards for each in (card.name.rpartition("/")[2], *card.aliases)
    }
    near = dict.fromkeys(names[each] for each in difflib.get_close_matches(name.lower(), names, n=6))
    listed = "`worker list-models` lists those with a manifest"
    return f"the nearest are {', '.join(list(near)[:3])}; {listed}" if near else listed
