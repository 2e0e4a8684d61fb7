"""Downloads models into the cache ahead of time, so that a host without network access can serve them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from producer.errors import ModelError, ProfileError, SettingsError
from selection import Manifest, ManifestError, manifest_for
from selection.choice import EXIT_UNKNOWN
from selection.manifests.catalog import manifests
from worker.models.checkpoint import weight_files
from worker.models.model import Model, read_model
from worker.models.safetensors_reader import SafetensorsFile
from worker.models.source import locate
from worker.settings import Settings
from worker.startup.loader import tokenizer_of

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloaded:
    """A complete model in the cache: its name, folder and size."""

    name: str
    directory: Path
    num_bytes: int

    def __str__(self) -> str:
        return f"{self.name}: {self.num_bytes / 2**20:.1f} MiB, complete, in {self.directory}"


def requested_manifests(
    settings: Settings, *, models: Sequence[str], profiles: Sequence[str], every: bool
) -> tuple[Manifest, ...]:
    """The manifests of the requested models and profiles; of the settings' model if none is requested.

    Raises ProfileError for a profile that no model has, SettingsError for a manifest that cannot be read.
    """
    try:
        known = tuple(each for each in manifests() if _has_source(each))
        if every:
            return known
        chosen = [manifest_for(name) for name in models]
        chosen += [_with_profile(profile, (*chosen, *known)) for profile in profiles]
        return tuple({each.path: each for each in chosen or [manifest_for(settings.model)]}.values())
    except ManifestError as error:
        raise SettingsError(str(error)) from error


def download(manifest: Manifest, settings: Settings) -> Downloaded:
    """Download a model unless it is cached already, and check it; a damaged one is downloaded again.

    Raises ModelError.
    """
    card = manifest.model
    # Prefer the hub: a cache that is moved to another host cannot refer to packages of this one.
    on_hub = [source for source in card.pinned_sources if source.startswith("hf:")]
    sources = on_hub or card.sources
    hub = settings.cache_path / "hub"
    directory = locate(sources, cache=hub, offline=settings.offline)
    try:
        model = _read_complete(directory, manifest, settings)
    except ModelError as error:
        if settings.offline or not on_hub:
            raise
        log.warning("download_again", model=card.name, reason=str(error))
        directory = locate(sources, cache=hub, offline=False, again=True)
        model = _read_complete(directory, manifest, settings)
    files = (path for path in model.directory.rglob("*") if path.is_file())
    return Downloaded(
        name=card.name, directory=directory, num_bytes=sum(each.stat().st_size for each in files)
    )


def _read_complete(directory: Path, manifest: Manifest, settings: Settings) -> Model:
    model = read_model(directory, sha256=manifest.model.weights_sha256)
    for path in weight_files(model.transformer):
        SafetensorsFile(path)
    tokenizer_of(model, cache=settings.cache_path)
    return model


def _has_source(manifest: Manifest) -> bool:
    return any(source.startswith("hf:") for source in manifest.model.sources)


def _with_profile(requested: str, known: Iterable[Manifest]) -> Manifest:
    """The manifest with the profile of this id, which may be followed by its name as in `id (name)`."""
    profile_id = requested.strip().partition(" ")[0]
    for manifest in known:
        if any(profile.id == profile_id for profile in manifest.profiles):
            return manifest
    raise ProfileError(
        f"Not all of the provided profiles are supported. Unknown profiles provided: {requested!r:.90}; "
        "use an id that `worker list-profiles` shows, or --model for a model without a manifest",
        exit_code=EXIT_UNKNOWN,
    )
