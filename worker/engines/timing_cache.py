"""What each kernel took when it was tried, kept beside the plans: the next like build is quick."""

from pathlib import Path
from typing import Any

import structlog

from producer.atomic import replace_file
from worker.engines.spec import EngineSpec

log = structlog.stdlib.get_logger(__name__)


def timing_cache_path(folder: Path, spec: EngineSpec) -> Path:
    """One file a library version and GPU model: on any other, TensorRT refuses it."""
    plan = spec.plan
    where = plan.gpu_name or "{}.{}".format(*plan.capability)
    return folder / "timing" / f"{plan.library}-{plan.version}-{where.replace(' ', '_')}.cache"


def use_timing_cache(config: Any, path: Path) -> None:
    """Give the builder what earlier builds measured, or an empty cache."""
    try:
        known = path.read_bytes()
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    # A cache of another GPU or driver is refused, and one that is damaged is none.
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        log.info("timing_cache_unused", path=str(path), reason="it is of another GPU or driver, or damaged")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def keep_timing_cache(config: Any, path: Path) -> None:
    """Write what was measured; where nothing can be written the log says so."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, bytes(cache.serialize()))
    except OSError as error:
        log.warning("cache_not_written", path=str(path), reason=error.strerror)
