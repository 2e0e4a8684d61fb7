"""Opens the vector cache with the store that the settings name."""

from pathlib import Path

from producer.contract import Keys
from producer.errors import SettingsError
from producer.transport.connect import connect
from producer.transport.retry import OutageBudget
from worker.settings import Settings
from worker.startup.boot import Booted
from worker.vector_cache.cache import Store, StoreError, VectorCache, max_records
from worker.vector_cache.redis_store import RedisVectors
from worker.vector_cache.sqlite_store import DiskVectors


def open_cache(settings: Settings, booted: Booted, keys: Keys) -> VectorCache | None:
    """The vector cache, or None if it is off. Raises SettingsError if its directory cannot be used."""
    if settings.vector_cache == "off":
        return None
    precision = booted.profile.precision
    dim = booted.backend.dim
    max_entries = max_records(settings.vector_cache_mb, dim)
    store: Store
    if settings.vector_cache == "redis":
        # A short outage budget: a result must not wait long for a cache.
        redis = connect(settings.redis_url, timeout_s=2.0, outage_budget=OutageBudget(0.2))
        store = RedisVectors(redis, keys, max_entries=max_entries)
    else:
        path = Path(settings.vector_cache).expanduser() / f"{booted.fingerprint[:16]}-{precision}.sqlite"
        try:
            store = DiskVectors(path, max_entries=max_entries)
        except StoreError as error:
            raise SettingsError(
                f"EMBEDMILL_VECTOR_CACHE: {error}; name a writable directory, or remove the file"
            ) from error
    return VectorCache(store, identity=f"{booted.fingerprint}\0{precision}", dim=dim)
