"""Reads a model from its directory, and loads its profiles onto a device."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from selection import Manifest, Profile
from selection.machine.facts import Facts, Gpu
from worker.backends import LoadOptions, load_backend
from worker.contract import Backend
from worker.engines.plan_file import CachedPlan
from worker.engines.spec import engine_spec
from worker.engines.store import ensure_plan, find_plan
from worker.models.custom_model import read_custom_model
from worker.models.model import Model, read_model
from worker.models.onnx.custom_files import find_custom_files
from worker.models.source import locate
from worker.prompts import Prompts, read_prompts
from worker.settings import Settings
from worker.startup.token_ids import ensure_token_ids
from worker.tokenization.tokenizer import Tokenizer

_SMALL_FILES = {".json", ".txt", ".model"}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ModelBundle:
    """A model, its tokenizer, and its prompts: its own and its manifest's.

    `fingerprint` is 64 hex digits that change with any of the model's files.
    """

    model: Model
    tokenizer: Tokenizer
    prompts: Prompts
    fingerprint: str


def read_bundle(manifest: Manifest, settings: Settings) -> ModelBundle:
    """Find and read the model. Raises ModelError."""
    card = manifest.model
    if settings.custom_model is not None:
        found = find_custom_files(settings.custom_model, output=settings.custom_output)
        model = read_custom_model(found)
    else:
        sources = (f"dir:{settings.model_dir}",) if settings.model_dir is not None else card.pinned_sources
        directory = locate(sources, cache=settings.cache_path / "hub", offline=settings.offline)
        model = read_model(directory, sha256=card.weights_sha256)
    prompts = read_prompts(
        model.prompts, card.prompts, default=model.default_prompt, input_types=card.input_types
    )
    tokenizer = tokenizer_of(model, cache=settings.cache_path)
    ensure_token_ids(tokenizer, model, manifest, settings)
    return ModelBundle(model=model, tokenizer=tokenizer, prompts=prompts, fingerprint=_fingerprint(model))


def tokenizer_of(model: Model, *, cache: Path | None = None) -> Tokenizer:
    """The model's tokenizer; one that has to be made is kept below `cache`. Raises ModelError."""
    return Tokenizer(
        model.transformer,
        max_tokens=model.max_text_tokens,
        lower_case=model.do_lower_case,
        special_tokens=model.special_tokens,
        vocab_size=model.network.vocab_size,
        cache=cache,
        pools_prompts=model.head.include_prompt,
    )


def load_profile(
    profile: Profile, bundle: ModelBundle, settings: Settings, *, facts: Facts, gpu: Gpu | None
) -> Backend:
    """Load the profile on its device: for a GPU, the first that this process sees, which must be `gpu`.

    Builds a missing TensorRT plan if the settings ask for it. Raises BackendError or ModelError.
    """
    options = LoadOptions(
        device=profile.device,
        precision=profile.precision,
        max_batch_tokens=settings.max_batch_tokens or profile.max_batch_tokens,
        num_threads=settings.num_threads,
        keep_16bit=profile.keep_16bit,
        plan=_plan(profile, bundle, settings, facts=facts, gpu=gpu),
        cache=settings.cache_path,
    )
    return load_backend(profile.backend, bundle.model, options)


def _plan(
    profile: Profile, bundle: ModelBundle, settings: Settings, *, facts: Facts, gpu: Gpu | None
) -> CachedPlan | None:
    if profile.backend != "tensorrt":
        return None
    spec = engine_spec(
        profile,
        bundle.model,
        bundle.fingerprint,
        facts,
        gpu=gpu,
        max_batch_tokens=settings.max_batch_tokens,
    )
    if settings.build_engines == "never":
        return find_plan(settings.plans_path, spec)
    return ensure_plan(settings.plans_path, spec, bundle.model, bundle.tokenizer)


def _fingerprint(model: Model) -> str:
    """A digest of all files; the network's weights count by the revision, which is made from their hash."""
    digest = hashlib.sha256(model.revision.encode())
    for path in sorted(_files(model)):
        digest.update(f"\0{path.relative_to(model.directory)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _files(model: Model) -> set[Path]:
    small = {path for path in model.directory.rglob("*") if path.suffix in _SMALL_FILES and path.is_file()}
    heads = {path for folder in model.head.folders for path in folder.glob("*.safetensors")}
    return small | heads
