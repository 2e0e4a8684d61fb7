"""Measures one profile in a separate process.

    python -m worker.startup.measurement_process PROFILE_ID

The first line of standard input is the request as JSON, including the machine's facts, so nothing is probed.
The process ends when its input is closed. Its end frees all memory; a crash ends only the measurement.
"""

import os
import resource
import statistics
import sys
import time
from collections import deque
from typing import Any

import msgspec
import numpy as np

from producer.errors import EmbedmillError, ProfileError
from selection import Facts, Measurement, cosine_bounds
from selection.machine.facts import Gpu
from selection.machine.probe_gpus import find_gpus
from worker.backends.token_batches import take
from worker.batching.packing import Budget, pack
from worker.batching.runner import MAX_IN_FLIGHT
from worker.contract import Backend, Handle, Tokens
from worker.models.model import Model
from worker.settings import Settings
from worker.startup.length_mix import length_mix
from worker.startup.loader import load_profile, read_bundle
from worker.startup.survey import survey
from worker.startup.verification import verify_backend
from worker.startup.verification_record import golden_for
from worker.telemetry.channel import end_with_parent
from worker.telemetry.logs import configure_logs

_NUM_BATCHES = 4  # roughly, per round
_MIN_ROUNDS, _MIN_S, _MAX_S = 3, 2.0, 60.0


class MeasurementRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the process reads from its standard input: settings that pin the profile, and the machine."""

    settings: dict[str, Any]
    facts: Facts


class MeasurementAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What the process prints: the measurement, or the reason why it failed."""

    measurement: Measurement | None = None
    failure: str = ""


def main() -> None:
    """Measure as requested on standard input, and print the answer as one JSON object."""
    request = msgspec.json.decode(sys.stdin.readline(), type=MeasurementRequest)
    end_with_parent(grace_s=0)  # a restarted worker needs the device
    settings = Settings(**request.settings)
    configure_logs(settings.log_level, jsonl=settings.jsonl_logging)
    try:
        measurement = measure_here(settings, request.facts, profile_id=sys.argv[1])
        answer = MeasurementAnswer(measurement=measurement)
    except EmbedmillError as error:
        answer = MeasurementAnswer(failure=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))


def measure_here(settings: Settings, facts: Facts, *, profile_id: str) -> Measurement:
    """Load the profile in this process, compare it with the golden vectors, and time it.

    Raises ProfileError, BackendError, ModelError or SettingsError.
    """
    seen = survey(settings, facts=facts)
    profile = seen.choice.selected
    if profile is None or profile.id != profile_id:
        raise ProfileError(seen.choice.error or f"{profile_id} is not pinned", exit_code=1)
    gpu = seen.choice.verdict(profile_id).gpu
    bundle = read_bundle(seen.manifest, settings)
    golden = golden_for(profile, bundle, seen.manifest, settings)
    free_before_bytes = _free_bytes(gpu)
    started_s = time.perf_counter()
    backend = load_profile(profile, bundle, settings, facts=facts, gpu=gpu)
    load_s = time.perf_counter() - started_s
    try:
        bounds = cosine_bounds(profile, layers=bundle.model.network.layers)
        verified = verify_backend(backend, bundle.tokenizer, golden)
        verified.check_batch(bounds)  # `choose` decides whether it is close enough to fp32
        batches = _batches(backend, bundle.model, settings)
        round_s = _round_s(backend, batches)
        memory_bytes = _memory_bytes(gpu, free_before_bytes)
    finally:
        backend.close()
    return Measurement(
        profile_id=profile_id,
        tokens_per_s=sum(len(each.ids) for each in batches) / round_s,
        texts_per_s=sum(len(each) for each in batches) / round_s,
        memory_bytes=memory_bytes,
        # A profile without golden vectors is itself the fp32 reference, or compared with none as asked.
        worst_cosine=1.0 if verified.golden_cosine is None else verified.golden_cosine,
        mean_cosine=1.0 if verified.mean_cosine is None else verified.mean_cosine,
        min_cosine=bounds.worst,
        min_mean_cosine=bounds.mean,
        load_s=load_s,
    )


def _batches(backend: Backend, model: Model, settings: Settings) -> list[Tokens]:
    """Random tokens in texts with the mix's lengths, packed into batches as from a full queue."""
    random = np.random.default_rng(0)
    mix = np.minimum(length_mix(settings).lengths, backend.max_text_tokens)
    num_texts = 1 + int(_NUM_BATCHES * backend.max_batch_tokens / mix.mean())
    lengths = random.choice(mix, num_texts)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    vocabulary = model.network.vocab_size
    # Skip the first ids: vocabularies begin with special tokens, and some models treat padding differently.
    ids = random.integers(min(1000, vocabulary // 2), vocabulary, int(offsets[-1]), dtype=np.int32)
    texts = Tokens(ids, offsets)
    budget = Budget.of(backend)
    batches, pending = [], np.arange(num_texts)
    while len(pending):
        picked = pack(lengths[pending], budget=budget)
        batches.append(take(texts, pending[picked]))
        pending = np.delete(pending, picked)
    return batches


def _round_s(backend: Backend, batches: list[Tokens]) -> float:
    """Median seconds of a round over all batches, with as many in flight as when serving."""
    backend.collect(backend.launch(batches[0]))
    rounds: list[float] = []
    while (len(rounds) < _MIN_ROUNDS or sum(rounds) < _MIN_S) and sum(rounds) < _MAX_S:
        started_s = time.perf_counter()
        in_flight: deque[Handle] = deque()
        for batch in batches:
            in_flight.append(backend.launch(batch))
            if len(in_flight) == MAX_IN_FLIGHT:
                backend.collect(in_flight.popleft())
        while in_flight:
            backend.collect(in_flight.popleft())
        rounds.append(time.perf_counter() - started_s)
    return statistics.median(rounds)


def _memory_bytes(gpu: Gpu | None, free_before_bytes: int | None) -> int:
    """GPU memory taken since `free_before_bytes`, 0 if unknown; on the CPU this process's peak."""
    if gpu is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    free_now_bytes = _free_bytes(gpu)
    if free_before_bytes is None or free_now_bytes is None:
        return 0
    return max(0, free_before_bytes - free_now_bytes)


def _free_bytes(gpu: Gpu | None) -> int | None:
    """Free memory of the GPU at this moment, None if the driver does not report it."""
    visible = find_gpus(os.environ).visible if gpu is not None else ()
    return next((each.memory_free_bytes for each in visible if gpu and each.uuid == gpu.uuid), None)


if __name__ == "__main__":
    main()
