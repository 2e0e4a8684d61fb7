"""The specification of a TensorRT plan: everything that must match for it to be loaded, and its key."""

import hashlib
import json
from dataclasses import asdict, dataclass

from producer.errors import BackendError
from selection.machine.facts import Capability, Facts, Gpu, Plan
from selection.manifests.manifest import Profile
from selection.runtimes import library_for, missing_library
from worker.engines.shapes import Shape, shapes_for
from worker.models.model import Model

MAX_BATCH_TOKENS = 16_384  #: default budget of a batch, padding included
_RECIPE = 1  # incremented whenever the graph or the build of the same model changes


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """`plan` is what `selection` compares; `fingerprint` changes with any of the model's files."""

    plan: Plan
    fingerprint: str
    precision: str
    shapes: tuple[Shape, ...]
    recipe: int = _RECIPE

    @property
    def key(self) -> str:
        """A hash of all fields, 64 hex digits."""
        canonical = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def engine_spec(
    profile: Profile,
    model: Model,
    fingerprint: str,
    facts: Facts,
    *,
    gpu: Gpu | None,
    capability: Capability | None = None,
    max_batch_tokens: int | None = None,
) -> EngineSpec:
    """The specification for the profile on `gpu`, or, ahead of time, on GPUs of a `capability`.

    Raises BackendError if no installed library can build it, or if no GPU is specified.
    """
    capability = capability or (gpu.capability if gpu else None) or _capability_of(profile)
    if capability is None:
        raise BackendError(f"{profile.name} names no GPU; name the compute capability to build for")
    target = gpu or Gpu(index=0, name="", capability=capability)
    library = library_for(profile, facts, gpu=target)
    if library is None:
        obstacle = missing_library(profile, facts, gpu=target)
        raise BackendError(
            f"no plan can be built for {profile.name}: {obstacle.reason if obstacle else 'no TensorRT'}"
        )
    # TensorRT for RTX compiles its plans further on the GPU that runs them, so they fit every GPU model.
    one_model = profile.requires.names_gpu and library.name == "tensorrt"
    return EngineSpec(
        plan=Plan(
            profile_id=profile.id,
            library=library.name,
            version=library.version,
            os=facts.os,
            cpu_architecture=facts.cpu.architecture,
            level="none" if one_model else "same-capability",
            capability=capability,
            gpu_name=target.name if one_model else "",
        ),
        fingerprint=fingerprint,
        precision=profile.precision,
        shapes=shapes_for(
            model.max_text_tokens,
            max(max_batch_tokens or profile.max_batch_tokens or MAX_BATCH_TOKENS, model.max_text_tokens),
        ),
    )


def _capability_of(profile: Profile) -> Capability | None:
    named = profile.requires.capabilities
    return named[0] if len(named) == 1 else None
