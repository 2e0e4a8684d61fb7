"""Which profile is the fastest here: each measured in a process of its own, told as a table, and kept."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from producer.errors import ProfileError
from selection import Measurement, Profile, store_measurement
from worker.settings import Settings
from worker.startup.survey import measurement_keys, measurements_path, survey
from worker.telemetry.channel import watched_input

log = structlog.stdlib.get_logger(__name__)

_LIMIT_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One profile's measurement, or why there is none."""

    profile: Profile
    measurement: Measurement | None
    failure: str = ""

    @property
    def fields(self) -> dict[str, Any]:
        """The row as fields of a log event."""
        if self.measurement is None:
            return {"failure": self.failure}
        found = self.measurement
        return {
            "texts_per_s": round(found.texts_per_s),
            "tokens_per_s": round(found.tokens_per_s),
            "worst_cosine": round(found.worst_cosine, 7),
        }


def measured(settings: Settings, *, profiles: Sequence[Profile] | None = None) -> list[Row]:
    """Measure these profiles, or every runnable one, one after the other, and keep what was found.

    Where the cache cannot be written the log says so. Raises ProfileError if none is runnable.
    """
    seen = survey(settings.model_copy(update={"policy": "rules"}))
    wanted = seen.choice.candidates if profiles is None else profiles
    if not wanted:
        raise ProfileError(seen.choice.error or "", exit_code=seen.choice.exit_code or 1)
    keys = measurement_keys(seen.choice, seen.facts, settings)
    rows = []
    for profile in wanted:
        row = _measure_apart(profile, settings)
        if row.measurement is not None and profile.id in keys:
            try:
                store_measurement(measurements_path(settings), keys[profile.id], row.measurement)
            except OSError as error:
                log.warning("measurement_not_kept", name=profile.name, reason=error.strerror)
        log.info("measured", name=profile.name, **row.fields)
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> str:
    """The rows as text: the fastest first, then the failures with their reasons."""
    head = ("profile", "texts/s", "tokens/s", "memory", "worst cosine", "mean cosine", "load")
    lines = [f"{head[0]:<28}" + "".join(f"{name:>14}" for name in head[1:])]
    numbers = [(row.profile, row.measurement) for row in rows if row.measurement is not None]
    for profile, found in sorted(numbers, key=lambda each: -each[1].tokens_per_s):
        cells = (
            f"{found.texts_per_s:,.0f}",
            f"{found.tokens_per_s:,.0f}",
            f"{found.memory_bytes / 2**30:.2f} GiB",
            f"{found.worst_cosine:.7f}",
            f"{found.mean_cosine:.7f}",
            f"{found.load_s:.2f} s",
        )
        low = profile.shortfall(worst_cosine=found.worst_cosine, mean_cosine=found.mean_cosine)
        line = f"{profile.name:<28}" + "".join(f"{cell:>14}" for cell in cells)
        lines.append(line if low is None else f"{line}  {low}")
    lines += [f"{row.profile.name:<28}  failed: {row.failure}" for row in rows if row.measurement is None]
    return "\n".join(lines)


def as_json(rows: Sequence[Row]) -> str:
    """The rows as one JSON list, in the order they were measured; see docs/selection.md."""
    return json.dumps([_fields(row) for row in rows], indent=1)


def _fields(row: Row) -> dict[str, Any]:
    found = row.measurement
    return {
        "id": row.profile.id,
        "name": row.profile.name,
        "min_cosine": row.profile.min_cosine,
        "min_mean_cosine": row.profile.min_mean_cosine,
        "failure": row.failure or None,
        "texts_per_s": found and found.texts_per_s,
        "tokens_per_s": found and found.tokens_per_s,
        "memory_bytes": found and found.memory_bytes,
        "worst_cosine": found and found.worst_cosine,
        "mean_cosine": found and found.mean_cosine,
        "load_s": found and found.load_s,
    }


def _measure_apart(profile: Profile, settings: Settings) -> Row:
    pinned = settings.model_copy(update={"policy": "rules", "model_profile": profile.id, "tags_selector": ""})
    try:
        with watched_input(pinned.model_dump_json()) as stdin:
            done = subprocess.run(
                [sys.executable, "-m", "worker.startup.measurement_process", profile.id],
                stdin=stdin,
                capture_output=True,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return Row(profile=profile, measurement=None, failure=f"it was not done after {_LIMIT_S} s")
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["and said nothing"])[-1]
        failure = f"its process ended with status {done.returncode}: {said:.200}"
        return Row(profile=profile, measurement=None, failure=failure)
    content = json.loads(done.stdout)
    if "error" in content:
        return Row(profile=profile, measurement=None, failure=content["error"])
    return Row(profile=profile, measurement=Measurement(**content))
