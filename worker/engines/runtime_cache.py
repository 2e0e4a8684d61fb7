"""The runtime cache of TensorRT for RTX: kernels compiled at load, kept for the next start."""

from pathlib import Path
from typing import Any

import structlog

from producer.atomic import replace_file

log = structlog.stdlib.get_logger(__name__)


class RuntimeCache:
    """The cache in a file next to the plan; the library rejects one from another GPU, driver or version."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache: Any = None
        self._saved = b""

    def attach(self, config: Any) -> None:
        """Let contexts with this runtime configuration use the cached kernels and add new ones."""
        self._cache = config.create_runtime_cache()
        try:
            self._saved = self._path.read_bytes()
        except OSError:
            self._saved = b""
        if self._saved and not self._cache.deserialize(self._saved):
            log.info(
                "runtime_cache_ignored", path=str(self._path), reason="from another GPU, driver or version"
            )
        config.set_runtime_cache(self._cache)

    def save(self) -> None:
        """Write the cache if it has changed; failure to write it is logged."""
        if self._cache is None:
            return
        content = bytes(self._cache.serialize())
        if content == self._saved:
            return
        try:
            replace_file(self._path, content)
        except OSError as error:
            log.warning("cache_not_written", path=str(self._path), reason=error.strerror)

    def close(self) -> None:
        """Free the cached kernels."""
        self._cache = None
