"""TensorRT's timing cache: kernel timings of earlier builds, which speed up similar builds."""

from pathlib import Path
from typing import Any

import structlog

from producer.atomic import replace_file
from worker.engines.spec import EngineSpec

log = structlog.stdlib.get_logger(__name__)


def timing_cache_path(folder: Path, spec: EngineSpec) -> Path:
    """One file per library version and GPU model, because TensorRT rejects those of others."""
    plan = spec.plan
    where = plan.gpu_name or "{}.{}".format(*plan.capability)
    return folder / "timing" / f"{plan.library}-{plan.version}-{where.replace(' ', '_')}.cache"


def load_timing_cache(config: Any, path: Path) -> None:
    """Give the builder the timings of earlier builds, or an empty cache."""
    try:
        known = path.read_bytes()
    except OSError:
        known = b""
    cache = config.create_timing_cache(known)
    # TensorRT rejects a cache from another GPU or driver, and returns None for a damaged one.
    if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
        log.info("timing_cache_ignored", path=str(path), reason="from another GPU or driver, or damaged")
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)


def save_timing_cache(config: Any, path: Path) -> None:
    """Write the builder's timings; failure to write them is logged."""
    cache = config.get_timing_cache()
    if cache is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, bytes(cache.serialize()))
    except OSError as error:
        log.warning("cache_not_written", path=str(path), reason=error.strerror)
