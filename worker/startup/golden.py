"""Golden vectors: what fp32 gives for known texts of all lengths; shipped, or made here once and kept."""

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from producer.contract import Truncate
from producer.errors import BackendError, ModelError
from selection import Profile
from worker.backends import load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.contract import Backend, FloatArray
from worker.models.custom_model import reference_of
from worker.reference_texts import golden_texts
from worker.settings import Settings
from worker.startup.loader import Loadable
from worker.storage.json_file import keep_cached, read_cached

log = structlog.stdlib.get_logger(__name__)

# Which backends make vectors where none are shipped, on the CPU in fp32: the first that builds the network.
_REFERENCES = ("onnx", "torch", "transformers")


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Texts and the vectors that fp32 gives for them, float32 (n, dim)."""

    texts: tuple[str, ...]
    vectors: FloatArray


def read_golden(path: Path) -> Golden:
    """The golden file of a manifest. Raises ModelError if it is not one."""
    try:
        return _from_fields(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise ModelError(f"{path} is no golden file: {error}") from error


def kept_golden(loadable: Loadable, settings: Settings) -> Golden | None:
    """What was made here before for exactly this model, or None."""
    fields = read_cached(_path(loadable, settings))
    try:
        return None if fields is None else _from_fields(fields)
    except (KeyError, ValueError, TypeError):
        return None


def make_golden(profile: Profile, loadable: Loadable, settings: Settings) -> Golden | None:
    """Golden vectors from the fp32 reference on the CPU, kept for the next boot.

    None if the profile is that reference itself, computes no embedding, or no reference builds the network.
    """
    if profile.backend == "fake":
        return None
    model, is_custom = loadable.model, loadable.model.graph is not None
    if is_custom:
        reference = reference_of(model)
        if reference is None:
            log.warning("golden_missing", reason="custom model without known weights: nothing is compared")
            return None
        model = reference
    for name in _REFERENCES:
        if not is_custom and (profile.backend, profile.device, profile.precision) == (name, "cpu", "fp32"):
            return None
        try:
            backend = load_backend(
                name, model, device="cpu", precision="fp32", num_threads=settings.num_threads
            )
        except BackendError as error:
            log.info("golden_reference_unfit", backend=name, reason=str(error))
            continue
        log.info("golden_made_once", backend=name, device="cpu", precision="fp32")
        return _make(backend, loadable, settings)
    log.warning("golden_missing", reason="no fp32 reference builds this network: nothing is compared")
    return None


def _make(backend: Backend, loadable: Loadable, settings: Settings) -> Golden:
    texts = golden_texts(loadable.model.max_text_tokens)
    try:
        vectors = embed_one_by_one(backend, loadable.tokenizer.encode(texts, Truncate.END).tokens)
    finally:
        backend.close()
    if not np.isfinite(vectors).all():
        raise ModelError("the model gives vectors that are not finite even in fp32; its weights are damaged")
    owner = {"model": settings.model}
    keep_cached(_path(loadable, settings), {"of": owner, "texts": texts, **golden_fields(vectors)})
    return Golden(texts, vectors)


def golden_fields(vectors: FloatArray) -> dict[str, Any]:
    """Vectors as a golden file holds them: base64 of little-endian float32 (n, dim)."""
    return {
        "dim": vectors.shape[1],
        "vectors": base64.b64encode(vectors.astype("<f4").tobytes()).decode(),
    }


def _from_fields(fields: Mapping[str, Any]) -> Golden:
    flat = np.frombuffer(base64.b64decode(fields["vectors"]), dtype="<f4")
    return Golden(tuple(fields["texts"]), flat.reshape(len(fields["texts"]), int(fields["dim"])))


def _path(loadable: Loadable, settings: Settings) -> Path:
    texts = json.dumps(golden_texts(loadable.model.max_text_tokens)).encode()
    name = hashlib.sha256(loadable.fingerprint.encode() + texts).hexdigest()[:32]
    return settings.cache_path / "golden" / f"{name}.json"
