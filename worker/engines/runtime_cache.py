"""Kernels that TensorRT for RTX compiled where they run, kept beside the plan for the next boot."""

from pathlib import Path
from typing import Any

import structlog

from producer.atomic import replace_file

log = structlog.stdlib.get_logger(__name__)


class RuntimeCache:
    """The file and what it is read into; the library itself refuses one of another GPU, driver or version."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache: Any = None
        self._known = b""

    def join(self, config: Any) -> None:
        """Have the contexts made with this runtime configuration take kernels from here and add theirs."""
        self._cache = config.create_runtime_cache()
        try:
            self._known = self._path.read_bytes()
        except OSError:
            self._known = b""
        if self._known and not self._cache.deserialize(self._known):
            log.info("runtime_cache_unused", path=str(self._path), reason="of another GPU, driver or version")
        config.set_runtime_cache(self._cache)

    def keep(self) -> None:
        """Write what is new; where nothing can be written the log says so."""
        if self._cache is None:
            return
        content = bytes(self._cache.serialize())
        if content == self._known:
            return
        try:
            replace_file(self._path, content)
        except OSError as error:
            log.warning("cache_not_written", path=str(self._path), reason=error.strerror)

    def close(self) -> None:
        """Let go of the kernels."""
        self._cache = None
