"""A model read from its directory, and profiles of it loaded onto a device."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from producer.errors import ModelError
from selection import Manifest, Profile
from selection.machine.facts import Facts, Gpu
from worker.backends import load_backend
from worker.contract import Backend
from worker.engines.plan_file import KeptPlan
from worker.engines.spec import engine_spec
from worker.engines.store import ensure_plan, find_plan
from worker.models.custom_files import find_files
from worker.models.custom_model import read_custom_model
from worker.models.model import Model, read_model
from worker.models.source import locate
from worker.settings import Settings
from worker.tokenization.tokenizer import Tokenizer

_SMALL_FILES = {".json", ".txt", ".model"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Loadable:
    """A model and its tokenizer; `fingerprint` is 64 hex digits that change with any file of the model."""

    model: Model
    tokenizer: Tokenizer
    fingerprint: str


def read_loadable(manifest: Manifest, settings: Settings) -> Loadable:
    """Find and read the model. Raises ModelError."""
    card = manifest.model
    if settings.custom_model is not None:
        model = read_custom_model(find_files(settings.custom_model))
    else:
        sources = (f"dir:{settings.model_dir}",) if settings.model_dir is not None else card.sources
        directory = locate(sources, cache=settings.cache_path / "hub", offline=settings.offline)
        model = read_model(directory, sha256=card.weights_sha256)
    if not model.head.include_prompt and any(card.prompts.values()):
        raise ModelError(
            "the model leaves prompts out of the pooling, but its manifest has some; remove them"
        )
    tokenizer = Tokenizer(model.transformer, max_tokens=model.max_text_tokens, lower_case=model.do_lower_case)
    return Loadable(model=model, tokenizer=tokenizer, fingerprint=_fingerprint(model))


def load_profile(
    profile: Profile, loadable: Loadable, settings: Settings, *, facts: Facts, gpu: Gpu | None
) -> Backend:
    """The profile on its device, the only GPU this process sees from then on.

    A TensorRT plan that is missing is built if the settings say so. Raises BackendError or ModelError.
    """
    # By its id, because the driver and CUDA count GPUs in different orders.
    if gpu is not None and gpu.uuid:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid
    return load_backend(
        profile.backend,
        loadable.model,
        device=profile.device,
        precision=profile.precision,
        max_batch_tokens=settings.max_batch_tokens or profile.max_batch_tokens,
        num_threads=settings.num_threads,
        keep_16bit=profile.keep_16bit,
        plan=_plan(profile, loadable, settings, facts=facts, gpu=gpu),
        cache=settings.cache_path,
    )


def _plan(
    profile: Profile, loadable: Loadable, settings: Settings, *, facts: Facts, gpu: Gpu | None
) -> KeptPlan | None:
    if profile.backend != "tensorrt":
        return None
    spec = engine_spec(
        profile,
        loadable.model,
        loadable.fingerprint,
        facts,
        gpu=gpu,
        max_batch_tokens=settings.max_batch_tokens,
    )
    if settings.build_engines == "never":
        return find_plan(settings.plans_path, spec)
    return ensure_plan(settings.plans_path, spec, loadable.model, loadable.tokenizer)


def _fingerprint(model: Model) -> str:
    """The revision stands for the network's weights, which have been hashed; the rest is small."""
    digest = hashlib.sha256(model.revision.encode())
    for path in sorted(_files(model)):
        digest.update(f"\0{path.relative_to(model.directory)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(model: Model) -> set[Path]:
    small = {path for path in model.directory.rglob("*") if path.suffix in _SMALL_FILES and path.is_file()}
    denses = {path for dense in model.head.denses for path in dense.directory.glob("*.safetensors")}
    return small | denses
