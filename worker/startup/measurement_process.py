"""One profile measured in a process of its own.

    python -m worker.startup.measurement_process PROFILE_ID

The first line of standard input has the settings as JSON; the process ends when that input is closed.
Memory is freed when the process ends, and a crash ends nothing but the measurement.
"""

import json
import os
import resource
import statistics
import sys
import time
from collections import deque
from dataclasses import asdict

import numpy as np

from producer.errors import EmbedmillError, ProfileError
from selection import Measurement, probe
from selection.machine.facts import Gpu
from worker.backends.token_batches import take
from worker.batching.packing import Budget, pack
from worker.batching.runner import MAX_IN_FLIGHT
from worker.contract import Backend, Handle, Tokens
from worker.models.model import Model
from worker.settings import Settings
from worker.startup.length_mix import length_mix
from worker.startup.loader import load_profile, read_loadable
from worker.startup.survey import survey
from worker.startup.verification import Owed, owed_by, verify
from worker.startup.verification_record import golden_for
from worker.telemetry.channel import end_with_parent
from worker.telemetry.logs import configure_logs

_NUM_BATCHES = 4  # about, in a round over them all
_MIN_ROUNDS, _MIN_S, _MAX_S = 3, 2.0, 60.0


def main() -> None:
    """Print the measurement, or the error, as one JSON object."""
    settings = Settings(**json.loads(sys.stdin.readline()))
    end_with_parent(grace_s=0)  # a worker that is started anew needs the device
    configure_logs(settings.log_level, jsonl=settings.jsonl_logging)
    try:
        content = asdict(measure_here(settings, sys.argv[1]))
    except EmbedmillError as error:
        content = {"error": str(error)}
    json.dump(content, sys.stdout)


def measure_here(settings: Settings, profile_id: str) -> Measurement:
    """Load the profile in this process, compare it with the golden vectors, and time it.

    Raises ProfileError, BackendError, ModelError or SettingsError.
    """
    seen = survey(settings)
    profile = seen.choice.selected
    if profile is None or profile.id != profile_id:
        raise ProfileError(seen.choice.error or f"{profile_id} is not pinned", exit_code=1)
    gpu = seen.choice.verdict(profile_id).gpu
    loadable = read_loadable(seen.manifest, settings)
    golden = golden_for(profile, loadable, seen.manifest, settings)
    started_s = time.perf_counter()
    backend = load_profile(profile, loadable, settings, facts=seen.facts, gpu=gpu)
    load_s = time.perf_counter() - started_s
    try:
        # How near to fp32 is near enough is for `choose` to say.
        owed = Owed(company=owed_by(profile).company)
        seen_cosines = verify(backend, loadable.tokenizer, golden, owed)
        batches = _batches(backend, loadable.model, settings)
        round_s = _round_s(backend, batches)
        memory_bytes = _memory_bytes(gpu)
    finally:
        backend.close()
    return Measurement(
        profile_id=profile_id,
        tokens_per_s=sum(len(each.ids) for each in batches) / round_s,
        texts_per_s=sum(len(each) for each in batches) / round_s,
        memory_bytes=memory_bytes,
        # Without golden vectors the profile is the fp32 reference itself.
        worst_cosine=1.0 if seen_cosines.golden_cosine is None else seen_cosines.golden_cosine,
        mean_cosine=1.0 if seen_cosines.mean_cosine is None else seen_cosines.mean_cosine,
        load_s=load_s,
    )


def _batches(backend: Backend, model: Model, settings: Settings) -> list[Tokens]:
    """Random tokens of the vocabulary in texts of the mix's lengths, packed as a full queue would be."""
    random = np.random.default_rng(0)
    mix = np.minimum(length_mix(settings).lengths, backend.max_text_tokens)
    num_texts = 1 + int(_NUM_BATCHES * backend.max_batch_tokens / mix.mean())
    lengths = random.choice(mix, num_texts)
    offsets = np.concatenate(([0], np.cumsum(lengths))).astype(np.int32)
    vocabulary = model.network.vocab_size
    # Special tokens come first in the vocabularies we know, and some models treat padding differently.
    ids = random.integers(min(1000, vocabulary // 2), vocabulary, int(offsets[-1]), dtype=np.int32)
    texts = Tokens(ids, offsets)
    budget = Budget(
        max_tokens=backend.max_batch_tokens, max_texts=backend.max_batch_texts, padded=backend.padded
    )
    batches, waiting = [], np.arange(num_texts)
    while len(waiting):
        picked = pack(lengths[waiting], budget=budget)
        batches.append(take(texts, waiting[picked]))
        waiting = np.delete(waiting, picked)
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


def _memory_bytes(gpu: Gpu | None) -> int:
    """What the GPU has lost since it was looked at, or the most this process had in memory."""
    if gpu is None:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    now = next((each for each in probe(os.environ).gpus if each.uuid == gpu.uuid), None)
    if now is None or now.memory_free_bytes is None or gpu.memory_free_bytes is None:
        return 0
    return max(0, gpu.memory_free_bytes - now.memory_free_bytes)


if __name__ == "__main__":
    main()
