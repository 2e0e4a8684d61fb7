"""Golden vectors: known texts and their vectors in fp32, shipped with a manifest or computed here once."""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import structlog

from producer.errors import BackendError, ModelError
from selection import Profile
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.contract import Backend, FloatArray, Tokens
from worker.models.custom_model import reference_of
from worker.settings import Settings
from worker.startup.loader import ModelBundle
from worker.storage.records import RecordOwner, read_record, write_record
from worker.tokenization.tokenizer import Tokenizer

log = structlog.stdlib.get_logger(__name__)

# Backends that compute golden vectors if none are shipped: the first that can run the network.
_REFERENCES = ("onnx", "torch", "transformers")


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """Texts and their vectors in fp32, float32 (n, dim)."""

    texts: tuple[str, ...]
    vectors: FloatArray


class _GoldenFile(msgspec.Struct, frozen=True, kw_only=True):
    """A golden file's JSON: `vectors` is base64 of little-endian float32 (n, dim)."""

    texts: tuple[str, ...]
    dim: int
    vectors: bytes
    owner: RecordOwner = RecordOwner()

    @property
    def golden(self) -> Golden:
        """Raises ValueError if there is not one vector for each text."""
        flat = np.frombuffer(self.vectors, dtype="<f4")
        return Golden(self.texts, flat.reshape(len(self.texts), self.dim))


def golden_tokens(texts: Sequence[str], tokenizer: Tokenizer) -> Tokens:
    """The tokens of golden texts.

    Where a model leaves prompts out of pooling, the first half of every other text is left out, so that a
    backend's way of doing so is verified too.
    """
    tokens = tokenizer.encode(texts, tokenizer.truncate).tokens
    if tokenizer.pools_prompts:
        return tokens
    halves = tokens.lengths // 2 * (np.arange(len(tokens)) % 2)
    return replace(tokens, num_unpooled=halves.astype(np.int32))


def read_golden(path: Path) -> Golden:
    """The golden vectors in a file. Raises ModelError if it does not hold any."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_GoldenFile).golden
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} does not hold golden vectors: {error}") from error


def cached_golden(bundle: ModelBundle, settings: Settings) -> Golden | None:
    """The golden vectors that an earlier boot computed for exactly these model files, or None."""
    record = read_record(_path(bundle, settings), _GoldenFile)
    try:
        return None if record is None else record.golden
    except ValueError:
        return None


def make_golden(profile: Profile, bundle: ModelBundle, settings: Settings) -> Golden | None:
    """Compute golden vectors with the fp32 reference on the CPU, and cache them for the next boot.

    None if the profile is itself the reference, computes no embeddings, or no reference can run the network.
    """
    if profile.backend == "fake":
        return None
    model, is_custom = bundle.model, bundle.model.graph is not None
    if is_custom:
        reference = reference_of(model)
        if reference is None:
            log.warning(
                "golden_missing", reason="custom model without known weights: vectors are not compared"
            )
            return None
        model = reference
    for name in _REFERENCES:
        if not is_custom and (profile.backend, profile.device, profile.precision) == (name, "cpu", "fp32"):
            return None
        try:
            backend = load_backend(
                name, model, LoadOptions(device="cpu", precision="fp32", num_threads=settings.num_threads)
            )
        except BackendError as error:
            log.info("golden_reference_unusable", backend=name, reason=str(error))
            continue
        log.info("golden_computed", backend=name, device="cpu", precision="fp32")
        return _make(backend, bundle, settings)
    log.warning("golden_missing", reason="no fp32 reference can run this network: vectors are not compared")
    return None


def _make(backend: Backend, bundle: ModelBundle, settings: Settings) -> Golden:
    texts = bundle.tokenizer.golden_texts()
    try:
        vectors = embed_one_by_one(backend, golden_tokens(texts, bundle.tokenizer))
    finally:
        backend.close()
    if not np.isfinite(vectors).all():
        raise ModelError(
            "the model's vectors are not finite, even in fp32: its weights are damaged; download them again"
        )
    record = _GoldenFile(
        texts=texts,
        dim=vectors.shape[1],
        vectors=vectors.astype("<f4").tobytes(),
        owner=RecordOwner(model=settings.model),
    )
    write_record(_path(bundle, settings), record)
    return Golden(texts, vectors)


def golden_fields(vectors: FloatArray) -> dict[str, Any]:
    """The part of a golden file that holds vectors, float32 (n, dim)."""
    return {
        "dim": vectors.shape[1],
        "vectors": base64.b64encode(vectors.astype("<f4").tobytes()).decode(),
    }


def _path(bundle: ModelBundle, settings: Settings) -> Path:
    texts = json.dumps(bundle.tokenizer.golden_texts()).encode()
    name = hashlib.sha256(bundle.fingerprint.encode() + texts).hexdigest()[:32]
    return settings.cache_path / "golden" / f"{name}.json"
