"""Measures how fast each profile is on this machine, and stores the results for policy `measured`."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog

from producer.errors import ProfileError
from selection import Facts, Measurement, Profile, store_measurement
from selection.machine.facts import Gpu
from worker.settings import Settings
from worker.startup.measurement_process import MeasurementAnswer, MeasurementRequest
from worker.startup.survey import machine_facts, measurement_keys, measurements_path, survey
from worker.telemetry.channel import watched_input

log = structlog.stdlib.get_logger(__name__)

_LIMIT_S = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementRow:
    """One profile's measurement, or the reason why it failed."""

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


def measure_profiles(
    settings: Settings, *, facts: Facts | None = None, profiles: Sequence[Profile] | None = None
) -> list[MeasurementRow]:
    """Measure these profiles, or every runnable one, in turn, and store the measurements in the cache.

    `facts` are this machine's, probed if None. A cache that cannot be written is only logged. Raises
    ProfileError if no profile is runnable.
    """
    facts = machine_facts(settings) if facts is None else facts
    seen = survey(settings.model_copy(update={"policy": "rules"}), facts=facts)
    wanted = seen.choice.candidates if profiles is None else profiles
    if not wanted:
        raise ProfileError(seen.choice.error or "", exit_code=seen.choice.exit_code or 1)
    keys = measurement_keys(seen.choice, facts, settings)
    rows = []
    for profile in wanted:
        row = _measure_in_process(profile, settings, facts, gpu=seen.choice.verdict(profile.id).gpu)
        if row.measurement is not None and profile.id in keys:
            try:
                store_measurement(measurements_path(settings), keys[profile.id], row.measurement)
            except OSError as error:
                log.warning("measurement_not_stored", name=profile.name, reason=error.strerror)
        log.info("measured", name=profile.name, **row.fields)
        rows.append(row)
    return rows


def table(rows: Sequence[MeasurementRow]) -> str:
    """The rows as text: the fastest first, then the failures and their reasons."""
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
        line = f"{profile.name:<28}" + "".join(f"{cell:>14}" for cell in cells)
        lines.append(line if found.shortfall is None else f"{line}  {found.shortfall}")
    lines += [f"{row.profile.name:<28}  failed: {row.failure}" for row in rows if row.measurement is None]
    return "\n".join(lines)


def as_json(rows: Sequence[MeasurementRow]) -> str:
    """The rows as one JSON list, in the order of measuring; see docs/reference/json.md."""
    return json.dumps([_fields(row) for row in rows], indent=1)


def _fields(row: MeasurementRow) -> dict[str, Any]:
    found = row.measurement
    return {
        "id": row.profile.id,
        "name": row.profile.name,
        "min_cosine": found and found.min_cosine,
        "min_mean_cosine": found and found.min_mean_cosine,
        "failure": row.failure or None,
        "texts_per_s": found and found.texts_per_s,
        "tokens_per_s": found and found.tokens_per_s,
        "memory_bytes": found and found.memory_bytes,
        "worst_cosine": found and found.worst_cosine,
        "mean_cosine": found and found.mean_cosine,
        "load_s": found and found.load_s,
    }


def _measure_in_process(
    profile: Profile, settings: Settings, facts: Facts, *, gpu: Gpu | None
) -> MeasurementRow:
    pinned = settings.model_copy(update={"policy": "rules", "model_profile": profile.id, "tags_selector": ""})
    request = MeasurementRequest(settings=pinned.model_dump(mode="json"), facts=facts)
    # By UUID, because the driver and CUDA number GPUs in different orders.
    device = {"CUDA_VISIBLE_DEVICES": gpu.uuid} if gpu is not None and gpu.uuid else {}
    try:
        with watched_input(msgspec.json.encode(request).decode()) as stdin:
            done = subprocess.run(
                [sys.executable, "-m", "worker.startup.measurement_process", profile.id],
                stdin=stdin,
                capture_output=True,
                env={**os.environ, **device},
                timeout=_LIMIT_S,
                check=False,
            )
    except subprocess.TimeoutExpired:
        return MeasurementRow(profile=profile, measurement=None, failure=f"not finished after {_LIMIT_S} s")
    if done.returncode != 0:
        last_line = (done.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        failure = f"its process ended with status {done.returncode}: {last_line:.200}"
        return MeasurementRow(profile=profile, measurement=None, failure=failure)
    try:
        answer = msgspec.json.decode(done.stdout, type=MeasurementAnswer)
    except ValueError as error:
        return MeasurementRow(profile=profile, measurement=None, failure=f"its output is not JSON: {error}")
    return MeasurementRow(profile=profile, measurement=answer.measurement, failure=answer.failure)
