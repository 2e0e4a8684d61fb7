"""Finds a model's directory: a path, an installed package, or a download from the Hugging Face hub."""

import errno
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from producer.errors import HubUnreachable, ModelError

# Only files that cannot run code: no pickles (.bin, .pt) and no Python.
_FILES = ("*.json", "*.txt", "*.model", "*.safetensors")
_PICKLES = ("*pytorch_model*.bin",)
_TOO_MANY_REQUESTS, _SERVER_ERRORS = 429, 500
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def locate(
    sources: Sequence[str],
    *,
    cache: Path | None,
    offline: bool,
    again: bool = False,
    pickles: bool = False,
) -> Path:
    """The directory of the first source that has the model.

    A source is "dir:<path>" or a bare path, "package:<import name>/<path inside>", or
    "hf:<org>/<name>[@<revision>]", which is downloaded into `cache` (None: the hub library's cache) unless it
    is already there or `offline` is set; `again` downloads it in any case, `pickles` also its pickled
    weights, which are only for conversion. Raises ModelError with the reason for each source, HubUnreachable
    if a later try may succeed.
    """
    if not sources:
        raise ModelError("the model has no source; name a directory, a package or a Hugging Face model")
    failures, kind = [], ModelError
    for source in sources:
        try:
            return _locate(source, _Download(cache=cache, offline=offline, again=again, pickles=pickles))
        except ModelError as error:
            failures.append(f"{source}: {error}")
            kind = HubUnreachable if isinstance(error, HubUnreachable) else kind
    raise kind("the model was not found; " + "; ".join(failures))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Download:
    """Where from the hub to, and what; see `locate`."""

    cache: Path | None
    offline: bool
    again: bool
    pickles: bool


def _locate(source: str, wanted: _Download) -> Path:
    scheme, colon, rest = source.partition(":")
    if colon and scheme == "hf":
        return _hub(rest, wanted)
    finders: dict[str, Callable[[str], Path]] = {"dir": _directory, "package": _package}
    if colon and scheme in finders:
        return finders[scheme](rest)
    return _directory(source)


def _directory(path: str) -> Path:
    directory = Path(path).expanduser()
    if not path or not directory.is_dir():
        raise ModelError("no such directory (a Hugging Face model is written hf:<org>/<name>)")
    return directory


def _package(place: str) -> Path:
    name, _, inside = place.partition("/")
    # find_spec does not import a top-level package.
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"the package {name} is not installed; install it with pip (--no-deps for its files alone)"
        )
    for location in spec.submodule_search_locations:
        directory = Path(location) / inside
        if directory.is_dir():
            return directory
    raise ModelError(
        f"the package {name} is installed but has no directory {inside}; install a version that has it"
    )


def _hub(place: str, wanted: _Download) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise ModelError("huggingface-hub is not installed; install embedmill[worker]") from error
    name, _, revision = place.partition("@")
    try:
        found = huggingface_hub.snapshot_download(
            name,
            revision=revision or None,
            cache_dir=wanted.cache,
            local_files_only=wanted.offline,
            force_download=wanted.again,
            allow_patterns=[*_FILES, *(_PICKLES if wanted.pickles else ())],
        )
    except LocalEntryNotFoundError as error:
        cure = "download it on a host with network access"
        if wanted.offline:
            raise ModelError(
                f"not in the cache, and downloads are turned off (EMBEDMILL_OFFLINE); {cure}"
            ) from error
        raise HubUnreachable(f"not in the cache, and the hub cannot be reached; {cure}") from error
    except HfHubHTTPError as error:
        if _is_transient(error):
            raise HubUnreachable(f"the hub refused the download for now ({type(error).__name__})") from error
        raise ModelError(
            f"the hub refused the download ({type(error).__name__}); check the name, the revision and "
            "your token"
        ) from error
    # The HTTP library's base class for errors, raised when a connection fails or breaks.
    except HfHubHTTPError.__bases__[0] as error:
        raise HubUnreachable(
            f"the download was interrupted ({type(error).__name__}); run it again to resume it"
        ) from error
    except OSError as error:
        raise ModelError(_write_failure(error, wanted.cache)) from error
    except ValueError as error:
        raise ModelError(
            f"the hub refused the download ({type(error).__name__}); check the name and the revision"
        ) from error
    return Path(found)


def _is_transient(error: Any) -> bool:
    """Whether the hub itself is in trouble, or asks to come back later."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status == _TOO_MANY_REQUESTS or status >= _SERVER_ERRORS


def _write_failure(error: OSError, cache: Path | None) -> str:
    """Why a download could not be written, and what to do."""
    where = cache or "the hub's cache"
    if error.errno in _DISK_FULL:
        return f"the disk of {where} is full or limits file sizes; free space and try again"
    if error.errno is not None:
        return (
            f"{where} cannot be written ({error.strerror}); set EMBEDMILL_CACHE_PATH to a writable folder or "
            "download on another host and mount the cache here"
        )
    return "the download was incomplete; run it again"
