"""Removes old entries and those of unwanted models from the cache, but none that a live worker uses."""

import shutil
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from producer.errors import SettingsError
from worker.cache.entries import Entry
from worker.storage.model_lock import unused


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """Entries that were removed (or would be), and those kept because a live worker uses their model."""

    removed: tuple[Entry, ...]
    in_use: tuple[Entry, ...]


def remove_entries(
    cache: Path,
    entries: Sequence[Entry],
    *,
    older_than_s: float = 0.0,
    keep_models: Collection[str] = (),
    dry_run: bool = False,
) -> Pruned:
    """Remove the entries that are at least that old and do not belong to `keep_models`.

    Keeps entries of models that live workers use, and while there are any, those that name no model. Raises
    SettingsError if a file cannot be removed.
    """
    kept = {name.lower() for name in keep_models}
    chosen = [each for each in entries if each.age_s >= older_than_s and not _is_named(each.model, kept)]
    removed: list[Entry] = []
    in_use: list[Entry] = []
    with ExitStack() as locks:
        models = {each.model for each in entries if each.model}
        free = {model: locks.enter_context(unused(cache, model)) for model in sorted(models)}
        for entry in chosen:
            is_free = free[entry.model] if entry.model else all(free.values())
            (removed if is_free else in_use).append(entry)
            if is_free and not dry_run:
                _remove(entry)
    return Pruned(removed=tuple(removed), in_use=tuple(in_use))


def _is_named(model: str, names: Collection[str]) -> bool:
    return bool({model.lower(), model.lower().rpartition("/")[2]} & set(names)) if model else False


def _remove(entry: Entry) -> None:
    try:
        if entry.path.is_dir():
            shutil.rmtree(entry.path)
            return
        for path in entry.parts or (entry.path,):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(
            f"{entry.path} cannot be removed ({error.strerror}); the cache may be mounted read-only"
        ) from error
