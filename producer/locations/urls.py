"""Which file system a path or URL belongs to; its library is imported only now."""

import os
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from producer.errors import FileError
from producer.locations.arrow_files import ArrowFiles
from producer.locations.filesystem import FileSystem
from producer.locations.fsspec_files import FsspecFiles
from producer.locations.local_files import LocalFiles

WEB = ("http", "https")
_CONNECT_S, _RETRY_S, _TRIES = 10, 15, 4
# The extra that brings what a scheme needs.
_EXTRAS = {
    "s3": "s3",
    "gs": "gs",
    "az": "az",
    "abfs": "az",
    "abfss": "az",
    "hf": "hf",
    "http": "http",
    "https": "http",
}
_SAME = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}


def is_url(location: str) -> bool:
    """True for `scheme://...`."""
    return "://" in location


def shown(location: str) -> str:
    """A path or URL for people: without password and query, which may be a signature."""
    if not is_url(location):
        return location
    parts = urlsplit(location)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def open_filesystem(location: str) -> tuple[FileSystem, str]:
    """The file system of a path or URL, and the path in it. Raises FileError.

    Credentials are taken as the library of each scheme takes them: from the environment and its own files.
    """
    if not is_url(location):
        return LocalFiles(), location
    parts = urlsplit(location)
    scheme = _SAME.get(parts.scheme.lower(), parts.scheme.lower())
    if scheme == "file":
        return LocalFiles(), unquote(parts.path)
    if scheme in WEB:
        return _opened(scheme, "", ""), location
    return _opened(scheme, parts.netloc, parts.query), f"{parts.netloc}{parts.path}"


def _opened(scheme: str, bucket: str, query: str) -> FileSystem:
    options = dict(parse_qsl(query))
    address = f"{scheme}://{bucket}"
    try:
        if scheme in _NATIVE:
            return ArrowFiles(_NATIVE[scheme](bucket, options), scheme)
        import fsspec

        if scheme not in _EXTRAS and scheme not in fsspec.available_protocols():
            raise FileError(
                f"{address}: no file system is known by {scheme}://; known are {', '.join(_EXTRAS)} and "
                "those of fsspec"
            )
        # A cached one would go on with old listings, and with credentials that have changed.
        return FsspecFiles(fsspec.filesystem(scheme, skip_instance_cache=True, **options), scheme)
    except ImportError as error:
        extra = (
            f"pip install 'embedmill[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else f"its package ({error})"
        )
        raise FileError(f"{address}: this place needs a further library; install it with {extra}") from error
    except (OSError, ValueError, TypeError) as error:
        raise FileError(f"{address}: cannot be opened ({error}); check its address and options") from error


def _s3(bucket: str, options: Mapping[str, str]) -> Any:
    from pyarrow import fs

    known = {"region", "endpoint_override", "scheme", "anonymous"}
    _refuse_unknown(options, known)
    endpoint = options.get("endpoint_override") or _first_of("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    region = options.get("region") or _first_of("AWS_REGION", "AWS_DEFAULT_REGION")
    if region is None and endpoint is None:
        region = _region_of(bucket)
    return fs.S3FileSystem(
        anonymous=options.get("anonymous") == "true",
        region=region,
        endpoint_override=endpoint,
        scheme=options.get("scheme"),
        connect_timeout=_CONNECT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_TRIES),
    )


@lru_cache(maxsize=64)
def _region_of(bucket: str) -> str:
    """Where a bucket of Amazon lies; asked for once."""
    from pyarrow import fs

    region: str = fs.resolve_s3_region(bucket)
    return region


def _gs(_bucket: str, options: Mapping[str, str]) -> Any:
    from datetime import timedelta

    from pyarrow import fs

    _refuse_unknown(options, {"endpoint_override", "scheme", "anonymous", "project_id"})
    more = {name: value for name, value in options.items() if name != "anonymous"}
    is_anonymous = options.get("anonymous") == "true"
    return fs.GcsFileSystem(anonymous=is_anonymous, retry_time_limit=timedelta(seconds=_RETRY_S), **more)


_NATIVE: Mapping[str, Callable[[str, Mapping[str, str]], Any]] = {"s3": _s3, "gs": _gs}


def _refuse_unknown(options: Mapping[str, str], known: set[str]) -> None:
    if unknown := options.keys() - known:
        raise ValueError(f"unknown option {min(unknown)!r}, known are {', '.join(sorted(known))}")


def _first_of(*names: str) -> str | None:
    return next((value for name in names if (value := os.environ.get(name))), None)
