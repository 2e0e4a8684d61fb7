"""Verifies a network in a wide format before a narrow one's roundings could hide what is wrong with it.

In fp8 and int8 a deep network's own loss exceeds that of two swapped layers or of another pooling. So the
same files are first loaded in 16 or 32 bit and held to that format's much closer bounds; what is left for the
narrow profile is to show that its roundings are the format's.
"""

import numpy as np
import structlog

from producer.errors import BackendDead, BackendError, BackendOutOfMemory
from selection import Profile
from selection.bounds import rounding_bounds
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import take
from worker.contract import Backend
from worker.settings import Settings
from worker.startup.golden import Golden, golden_tokens
from worker.startup.loader import ModelBundle
from worker.startup.survey import Survey
from worker.startup.verification import Verified, compare
from worker.startup.verification_record import golden_for, record_path, recorded, write_verified

log = structlog.stdlib.get_logger(__name__)

# The wide twin of a narrow profile, by its backend and device. A TensorRT plan in 16 bit takes minutes to
# build, so there the files are proven by our own graph. fp16 would refuse networks that overflow it.
_TWINS = {
    ("torch", "cuda"): ("torch", "cuda", "bf16"),
    ("torch", "cpu"): ("torch", "cpu", "fp32"),
    ("onnx", "cpu"): ("onnx", "cpu", "fp32"),
    ("tensorrt", "cuda"): ("onnx", "cpu", "fp32"),
}
_NARROW = ("fp8", "int8")
_MAX_CPU_TOKENS = 128  # on a CPU longer texts cost seconds, and windows of attention show within these


def ensure_structure(profile: Profile, bundle: ModelBundle, seen: Survey, settings: Settings) -> None:
    """Verify the network of an fp8 or int8 profile in a wide format, or rely on an earlier boot's record.

    Nothing is proven for other profiles, for custom graphs, whose file is the only one there is, without
    golden vectors, or where these come from the twin itself. Raises BackendError if the network is wrong.
    """
    twin = _TWINS.get((profile.backend, profile.device))
    if profile.precision not in _NARROW or twin is None or bundle.model.graph is not None:
        return
    shipped = seen.manifest.model.golden is not None
    if twin == ("onnx", "cpu", "fp32") and not shipped:
        return  # golden vectors are computed by just this
    path = record_path(profile, bundle, seen, settings, twin="-".join(twin))
    if settings.verify != "always" and recorded(path) is not None:
        return
    golden = golden_for(profile, bundle, seen.manifest, settings)
    if golden is None:
        return
    backend = _load(twin, profile, bundle, settings)
    if backend is None:
        return
    precision = twin[2]
    try:
        verified = _compared(backend, golden, bundle, device=twin[1])
        bounds = rounding_bounds(precision, layers=bundle.model.network.layers)
        verified.check_batch(bounds)
        verified.check_golden(bounds)
    except BackendOutOfMemory as error:
        _warn(profile, precision, error)
        return
    except BackendDead:
        raise
    except BackendError as error:
        raise BackendError(
            f"the network is wrong, which {profile.precision}'s roundings could hide: in {precision} {error}"
        ) from error
    finally:
        backend.close()
    cosine = "none" if verified.golden_cosine is None else f"{verified.golden_cosine:.7f}"
    log.info("structure_verified", name=profile.name, precision=precision, golden_cosine=cosine)
    write_verified(path, verified, model=seen.manifest.model.name, profile=profile.name)


def _load(
    twin: tuple[str, str, str], profile: Profile, bundle: ModelBundle, settings: Settings
) -> Backend | None:
    """The twin, with the smallest budget and without autotuning; None, and a warning, if it cannot be had."""
    name, device, precision = twin
    options = LoadOptions(
        device=device, precision=precision, max_batch_tokens=1, num_threads=settings.num_threads
    )
    try:
        return load_backend(name, bundle.model, options)
    except BackendError as error:
        _warn(profile, precision, error)
        return None


def _warn(profile: Profile, precision: str, error: BackendError) -> None:
    log.warning("structure_not_verified", name=profile.name, precision=precision, reason=str(error))


def _compared(backend: Backend, golden: Golden, bundle: ModelBundle, *, device: str) -> Verified:
    """The comparison of all golden texts on a GPU, of those of up to 128 tokens on a CPU."""
    tokens = golden_tokens(golden.texts, bundle.tokenizer)
    if device != "cpu":
        return compare(backend, tokens, golden.vectors)
    kept = np.flatnonzero(tokens.lengths <= _MAX_CPU_TOKENS)
    return compare(backend, take(tokens, kept), golden.vectors[kept])
