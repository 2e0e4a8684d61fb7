"""A network that is wrong by less than a narrow format loses does not serve: a wide one shows it first."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from support.custom_graphs import MINILM

import worker.startup.structure
from producer.errors import ProfileError
from selection import manifest_at
from worker.backends import LoadOptions, load_backend
from worker.backends.token_batches import embed_one_by_one
from worker.models.model import read_model
from worker.settings import Settings
from worker.startup.boot import boot
from worker.startup.golden import golden_fields, golden_tokens
from worker.startup.loader import read_bundle

LAYERS, WIDTH, TOKENS = 24, 64, 40
PROFILES: dict[str, dict[str, Any]] = {
    "int8": {"name": "narrow", "backend": "onnx", "device": "cpu", "precision": "int8"},
    "fp8": {"name": "narrow", "backend": "torch", "device": "cpu", "precision": "fp8"},
}


def deep_weights() -> dict[str, np.ndarray]:
    """Those of a BERT of 24 layers as transformers would initialise them, and the real vocabulary's table."""
    random = np.random.default_rng(3)

    def normal(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) * 0.08).astype(np.float32)

    found = {
        "embeddings.word_embeddings.weight": normal(30_522, WIDTH),
        "embeddings.position_embeddings.weight": normal(TOKENS, WIDTH),
        "embeddings.token_type_embeddings.weight": normal(2, WIDTH),
    }
    norms = ["embeddings.LayerNorm"]
    for layer in range(LAYERS):
        place = f"encoder.layer.{layer}"
        products = {
            "attention.self.query": (WIDTH, WIDTH),
            "attention.self.key": (WIDTH, WIDTH),
            "attention.self.value": (WIDTH, WIDTH),
            "attention.output.dense": (WIDTH, WIDTH),
            "intermediate.dense": (4 * WIDTH, WIDTH),
            "output.dense": (WIDTH, 4 * WIDTH),
        }
        for name, shape in products.items():
            # The last layers of real networks change little; here so little that fp8 hides which is which.
            share = 0.25 if layer >= LAYERS - 2 and name.endswith("output.dense") else 1
            found[f"{place}.{name}.weight"] = share * normal(*shape)
            found[f"{place}.{name}.bias"] = normal(shape[0])
        norms += [f"{place}.attention.output.LayerNorm", f"{place}.output.LayerNorm"]
    for name in norms:
        found[f"{name}.weight"] = 1 + 2 * normal(WIDTH)
        found[f"{name}.bias"] = normal(WIDTH)
    return found


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network's directory, and beside it a golden file as sentence-transformers would have made it."""
    folder = tmp_path_factory.mktemp("sound")
    directory = folder / "deep"
    (directory / "1_Pooling").mkdir(parents=True)
    save_file(deep_weights(), directory / "model.safetensors")
    config = {
        "model_type": "bert",
        "vocab_size": 30_522,
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": TOKENS,
    }
    (directory / "config.json").write_text(json.dumps(config))
    shutil.copy(MINILM / "tokenizer.json", directory)
    modules = [
        {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
    ]
    (directory / "modules.json").write_text(json.dumps(modules))
    pool(directory, "mean")
    write_golden(folder, directory)
    return folder


def pool(directory: Path, mode: str, *, include_prompt: bool = True) -> None:
    fields = {
        "include_prompt": include_prompt,
        "word_embedding_dimension": WIDTH,
        "pooling_mode_cls_token": mode == "cls",
        "pooling_mode_mean_tokens": mode == "mean",
    }
    (directory / "1_Pooling" / "config.json").write_text(json.dumps(fields))


def swap_last_layers(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    last, other = f"layer.{LAYERS - 1}.", f"layer.{LAYERS - 2}."
    swapped = {
        name.replace(last, other) if last in name else name.replace(other, last): tensor
        for name, tensor in tensors.items()
    }
    save_file(swapped, directory / "model.safetensors")


def write_golden(folder: Path, directory: Path) -> None:
    manifest = manifest_of(folder, directory, "int8", golden=False)
    settings = Settings(model="deep", manifest_path=manifest, cache_path=folder / "cache")
    bundle = read_bundle(manifest_at(manifest, model="deep"), settings)
    backend = load_backend("onnx", read_model(directory), LoadOptions())
    texts = bundle.tokenizer.golden_texts()
    vectors = embed_one_by_one(backend, golden_tokens(texts, bundle.tokenizer))
    backend.close()
    (folder / "golden").mkdir()
    (folder / "golden" / "deep.json").write_text(json.dumps({"texts": texts, **golden_fields(vectors)}))


def manifest_of(folder: Path, directory: Path, precision: str, *, golden: bool = True) -> Path:
    fields = {
        "schema": 1,
        "model": {"name": "org/deep", "sources": [f"dir:{directory}"]},
        "profiles": [PROFILES[precision]],
    }
    path = folder / "deep.yaml"
    path.write_text(yaml.safe_dump(fields))
    return path


def spoiled(sound: Path, folder: Path, spoil: Callable[[Path], None] | None) -> Path:
    """A copy of the sound network with its golden vectors, and spoiled files."""
    shutil.copytree(sound, folder, dirs_exist_ok=True)
    if spoil is not None:
        spoil(folder / "deep")
    return folder


def boot_narrow(folder: Path, precision: str, **settings: Any) -> None:
    manifest = manifest_of(folder, folder / "deep", precision)
    booted = boot(Settings(model="deep", manifest_path=manifest, cache_path=folder / "cache", **settings))
    booted.backend.close()


def needs(precision: str) -> Any:
    marks = [pytest.mark.peers] if precision == "fp8" else []
    return pytest.param(precision, marks=marks)


SPOILS = {"pooling": lambda directory: pool(directory, "cls"), "layers": swap_last_layers}


@pytest.mark.parametrize("precision", [needs("int8"), needs("fp8")])
@pytest.mark.parametrize("spoil", SPOILS)
def test_what_the_narrow_format_would_hide_is_found_in_the_wide_one(
    sound: Path, tmp_path: Path, precision: str, spoil: str
) -> None:
    """Another pooling, and the last two layers swapped, which meet the narrow format's own bounds."""
    folder = spoiled(sound, tmp_path / "it", SPOILS[spoil])
    with pytest.raises(ProfileError, match=f"the network is wrong, which {precision}'s roundings could hide"):
        boot_narrow(folder, precision)


@pytest.mark.peers
@pytest.mark.parametrize("spoil", [None, *SPOILS])
def test_bf16_which_is_the_twin_on_a_gpu_finds_it_too(
    sound: Path, tmp_path: Path, spoil: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within its wider bounds, here in the emulation on the CPU; a sound network passes them."""
    monkeypatch.setattr(worker.startup.structure, "_TWINS", {("torch", "cpu"): ("torch", "cpu", "bf16")})
    folder = spoiled(sound, tmp_path / "it", None if spoil is None else SPOILS[spoil])
    if spoil is None:
        boot_narrow(folder, "fp8")
        return
    with pytest.raises(ProfileError, match="which fp8's roundings could hide: in bf16 to the golden vectors"):
        boot_narrow(folder, "fp8")


@pytest.mark.parametrize("precision", [needs("int8"), needs("fp8")])
def test_a_sound_network_serves_and_is_proven_once(
    sound: Path, tmp_path: Path, precision: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The next boot under the same conditions relies on the record."""
    caplog.set_level("INFO")
    folder = spoiled(sound, tmp_path / "it", None)
    boot_narrow(folder, precision)
    assert "structure_verified name=narrow precision=fp32" in caplog.text
    caplog.clear()
    boot_narrow(folder, precision)
    assert "structure_verified" not in caplog.text


def test_long_texts_are_left_out_on_a_cpu_and_the_others_stay_what_they_are(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where prompts are left out of pooling: then half of every other text is."""
    caplog.set_level("INFO")
    folder = spoiled(sound, tmp_path / "it", None)
    pool(folder / "deep", "mean", include_prompt=False)
    shutil.rmtree(folder / "golden")
    write_golden(folder, folder / "deep")
    monkeypatch.setattr(worker.startup.structure, "_MAX_CPU_TOKENS", 11)
    boot_narrow(folder, "int8")
    assert "structure_verified name=narrow" in caplog.text


def test_without_golden_vectors_from_elsewhere_it_would_be_compared_with_itself(
    sound: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """So the twin is not loaded for them."""
    caplog.set_level("INFO")
    folder = spoiled(sound, tmp_path / "it", None)
    shutil.rmtree(folder / "golden")
    boot_narrow(folder, "int8")
    assert "structure_verified" not in caplog.text


def test_a_twin_that_cannot_be_loaded_is_told(
    sound: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU that holds the narrow weights only; the narrow profile's own bounds are left."""
    twins = {("onnx", "cpu"): ("onnx", "cpu", "fp16")}  # which the backend does not have
    monkeypatch.setattr(worker.startup.structure, "_TWINS", twins)
    boot_narrow(spoiled(sound, tmp_path / "it", None), "int8")
    assert "structure_not_verified name=narrow precision=fp16 reason=" in caplog.text
