"""Plans in the cache: their key, whole or absent, one builder at a time, and seen by selection."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.paths import MACHINES
from support.small_network import small_model

from producer.errors import BackendError
from selection import Standing, choose, load_facts, manifest_for, probe
from selection.machine.facts import Facts
from selection.manifests.manifest import Profile
from worker.engines.plan_file import plan_path, read_plan, write_plan
from worker.engines.shapes import shapes_for
from worker.engines.spec import EngineSpec, engine_spec
from worker.engines.store import build_lock, find_plan

MANIFEST = manifest_for("minilm")
RTX_4090 = load_facts(MACHINES / "rtx-4090-tensorrt-rtx.json")
H100 = load_facts(MACHINES / "h100-sxm.json")


def profile(name: str) -> Profile:
    return next(each for each in MANIFEST.profiles if each.name == name)


def spec_for(name: str = "sm89-fp16-tensorrt", facts: Facts = RTX_4090, **changes: object) -> EngineSpec:
    gpu = facts.gpus[0] if facts.gpus else None
    return engine_spec(profile(name), small_model(), "fingerprint", facts, gpu=gpu, **changes)  # type: ignore[arg-type]


def test_the_key_differs_wherever_anything_differs() -> None:
    """Model, precision, shapes, library, version, system, architecture, capability, level, recipe."""
    spec = spec_for()
    plan = spec.plan
    changes: dict[str, Any] = {
        "profile_id": "other",
        "library": "tensorrt",
        "version": "0.1",
        "os": "windows",
        "cpu_architecture": "aarch64",
        "level": "none",
        "capability": (8, 6),
        "gpu_name": "NVIDIA L4",
    }
    others = [
        replace(spec, fingerprint="other"),
        replace(spec, precision="fp8"),
        replace(spec, shapes=shapes_for(40, 99)),
        replace(spec, recipe=spec.recipe + 1),
        *(replace(spec, plan=replace(plan, **{name: value})) for name, value in changes.items()),
    ]
    assert len({spec.key, *(other.key for other in others)}) == 1 + len(others)
    assert spec.key == spec_for().key
    assert len(spec.key) == 64


def test_a_plan_for_a_gpu_model_is_for_that_model_only() -> None:
    """With `tensorrt`; by capability it runs on every GPU of that one, and so do all of TensorRT for RTX."""
    named = spec_for("h100-hbm3-80gb-fp16-tensorrt", H100).plan
    assert (named.level, named.gpu_name, named.library) == ("none", "NVIDIA H100 80GB HBM3", "tensorrt")
    by_capability = spec_for("sm90-fp16-tensorrt", H100).plan
    assert (by_capability.level, by_capability.gpu_name) == ("same-capability", "")
    rtx = spec_for("rtx-4090-fp16-tensorrt").plan
    assert (rtx.level, rtx.gpu_name, rtx.library) == ("same-capability", "", "tensorrt_rtx")


def test_the_token_budget_asked_for_decides_the_shapes() -> None:
    """And a profile's own comes next."""
    assert spec_for(max_batch_tokens=400).shapes == shapes_for(40, 400)
    assert spec_for().shapes == shapes_for(40, 16_384)


def test_ahead_of_time_the_profile_says_for_which_gpus() -> None:
    """Without a GPU here; one that names a model has to be told the capability."""
    nowhere = replace(RTX_4090, gpus=())
    assert spec_for(facts=nowhere).plan.capability == (8, 9)
    with pytest.raises(BackendError, match="rtx-4090-fp16-tensorrt names no GPU; name the compute"):
        spec_for("l4-fp16-tensorrt".replace("l4", "rtx-4090"), nowhere)
    with pytest.raises(BackendError, match=r"tensorrt_rtx .* does not support compute capability 9\.0"):
        spec_for("sm90-fp16-tensorrt", nowhere)


def test_a_plan_that_was_written_is_read_and_seen_by_selection(tmp_path: Path) -> None:
    """Its description is what makes the profile runnable."""
    spec = spec_for()
    path = plan_path(tmp_path / "plans", spec)
    with pytest.raises(BackendError, match=r"no plan in the cache matches .* `worker build-engines`"):
        find_plan(tmp_path / "plans", spec)
    write_plan(path, spec, b"what TensorRT gave")
    assert bytes(read_plan(path, spec.key)) == b"what TensorRT gave"
    assert find_plan(tmp_path / "plans", spec).path == path
    plans = probe({"EMBEDMILL_CACHE_PATH": str(tmp_path), "NIM_CPU_ONLY": "1"}).plans
    assert plans == (spec.plan,)
    before = choose(RTX_4090, MANIFEST).verdict(spec.plan.profile_id)
    after = choose(replace(RTX_4090, plans=plans), MANIFEST).verdict(spec.plan.profile_id)
    assert (before.standing, after.standing) == (Standing.BUILDABLE, Standing.RUNNABLE)
    assert {each.suffix for each in path.parent.iterdir()} == {".plan", ".json"}


def test_a_plan_of_another_model_is_not_taken(tmp_path: Path) -> None:
    """Though selection sees one for the profile."""
    spec = spec_for()
    write_plan(plan_path(tmp_path, spec), spec, b"plan")
    with pytest.raises(BackendError, match="matches these model files"):
        find_plan(tmp_path, replace(spec, fingerprint="other weights"))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda whole: whole[:-1], "is damaged or incomplete"),
        (lambda whole: whole[:40], "is not an Embedmill plan"),
        (lambda whole: whole.replace(b"TensorRT", b"tensorRT"), "is damaged or incomplete"),
        (lambda whole: b"ftrt" + bytes(2000), "is not an Embedmill plan"),
        (lambda whole: b"[1]\n" + whole, "is not an Embedmill plan"),
        (lambda whole: b"", "is not an Embedmill plan"),
        (
            lambda whole: whole.replace(spec_for().key.encode(), b"0" * 64),
            "does not contain the plan that its name promises",
        ),
    ],
)
def test_a_broken_plan_ends_in_one_sentence(tmp_path: Path, content: object, says: str) -> None:
    """Truncated, altered, foreign or renamed."""
    spec = spec_for()
    path = plan_path(tmp_path, spec)
    write_plan(path, spec, b"what TensorRT gave")
    path.write_bytes(content(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BackendError, match=f"{says}.*`worker build-engines`") as failed:
        read_plan(path, spec.key)
    assert "\n" not in str(failed.value)


def test_a_cache_that_cannot_be_written_ends_in_one_sentence(tmp_path: Path) -> None:
    """That says what to set."""
    spec = spec_for()
    blocked = tmp_path / "plans"
    blocked.write_text("no folder")
    with pytest.raises(BackendError, match=r"cannot be written to .*set EMBEDMILL_CACHE_PATH"):
        write_plan(plan_path(blocked, spec), spec, b"plan")
    with pytest.raises(BackendError, match=r"no plan can be built in .*set EMBEDMILL_CACHE_PATH"):
        build_lock(plan_path(blocked, spec)).__enter__()


def test_a_write_that_breaks_off_leaves_no_plan(tmp_path: Path) -> None:
    """Where the disk gave out, neither half a plan nor a description of it is left."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "from pathlib import Path; sys.path[:0] = ['tests', 'tests/worker/engines']\n"
        "from test_tensorrt_plans import spec_for; from worker.engines.plan_file import *\n"
        "spec = spec_for(); write_plan(plan_path(Path(sys.argv[1]), spec), spec, bytes(100_000))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert "BackendError: the plan of 0 MiB cannot be written to" in ran.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_two_processes_build_a_plan_once(tmp_path: Path) -> None:
    """The second waits, says so, and finds it there."""
    code = (
        "import logging, sys, time; logging.basicConfig(level='INFO', stream=sys.stdout)\n"
        "from pathlib import Path; from worker.engines.store import build_lock\n"
        "path = Path(sys.argv[1])\n"
        "with build_lock(path):\n"
        "    print('there' if path.exists() else 'built', flush=True)\n"
        "    time.sleep(1.0)\n"
        "    path.touch()"
    )
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path / "a/b.plan")], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = sorted(process.communicate(timeout=30)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said[0].splitlines()[-1:] != said[1].splitlines()[-1:]
    waited = next(text for text in said if "there" in text)
    assert "another process is building it" in waited


def test_a_dead_builder_does_not_block_the_next(tmp_path: Path) -> None:
    """Its lock goes with it."""
    path = tmp_path / "b.plan"
    code = (
        "import os, sys; from pathlib import Path; from worker.engines.store import build_lock\n"
        "with build_lock(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=30)
    with build_lock(path):
        assert path.with_suffix(".lock").is_file()


def test_others_may_read_what_was_built(tmp_path: Path) -> None:
    """An image's plans are built by root and read by the worker's user."""
    spec = spec_for()
    path = plan_path(tmp_path, spec)
    before = os.umask(0o022)
    try:
        write_plan(path, spec, b"plan")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert json.loads(path.with_suffix(".json").read_text())["capability"] == "8.9"
