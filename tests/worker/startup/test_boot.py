"""Boot: nothing serves that was not verified here, and what failed is told."""

import json
import shutil
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from support.paths import MACHINES, ROOT

from producer.contract import EmbedOptions
from producer.errors import ModelError, ProfileError
from selection import cosine_bounds, probe
from worker.cli.main import main
from worker.prompts import Prompt
from worker.settings import Settings
from worker.startup.boot import boot

PROFILES = ROOT / "profiles"
MODEL = "all-minilm-l6-v2"
FP32 = {
    "name": "cpu-fp32-onnx",
    "backend": "onnx",
    "device": "cpu",
    "precision": "fp32",
    "min_cosine": 0.99999,
}
# The onnx backend has no fp16 for CPUs, so this one ranks better and does not load.
FP16 = {**FP32, "name": "cpu-fp16-onnx", "precision": "fp16", "min_cosine": 0.9999}


def manifest(folder: Path, *profiles: dict[str, object], golden: bool = True, **model: object) -> Path:
    """The shipped manifest with other profiles, beside its golden vectors."""
    fields = yaml.safe_load((PROFILES / f"{MODEL}.yaml").read_text())
    fields.pop("include")
    fields["profiles"] = list(profiles)
    fields["model"] |= model
    path = folder / f"{MODEL}.yaml"
    path.write_text(yaml.safe_dump(fields))
    if golden:
        (folder / "golden").mkdir(exist_ok=True)
        shutil.copy(PROFILES / "golden" / f"{MODEL}.json", folder / "golden")
    return path


def test_the_fp32_profile_reproduces_its_golden_vectors() -> None:
    """It serves, and was compared."""
    booted = boot(Settings(model="all-MiniLM-L6-v2", model_profile="cpu-fp32-onnx"))
    assert booted.profile.name == "cpu-fp32-onnx"
    assert booted.verified.golden_cosine is not None
    assert booted.verified.golden_cosine > 0.999999
    assert booted.verified.batch_cosine > 0.999999
    booted.backend.close()


@pytest.mark.skipif("avx512_vnni" not in probe({}).cpu.features, reason="needs a CPU with VNNI")
def test_a_cpu_with_vnni_takes_int8_by_itself() -> None:
    """It holds its cosine, and a text's vector does not depend on the rest of its batch."""
    booted = boot(Settings(model="all-MiniLM-L6-v2"))
    assert booted.profile.name == "cpu-int8-onnx"
    assert booted.verified.golden_cosine is not None
    bound = cosine_bounds(booted.profile, layers=6).worst
    assert bound < booted.verified.golden_cosine < 0.9999
    assert booted.verified.batch_cosine > 0.999999
    booted.backend.close()


def test_a_profile_that_fails_is_told_and_the_next_one_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With automatic choice."""
    booted = boot(Settings(model="minilm", manifest_path=manifest(tmp_path, FP32, FP16)))
    booted.backend.close()
    assert booted.profile.name == "cpu-fp32-onnx"
    assert 'profile_failed name=cpu-fp16-onnx reason="the onnx backend supports cpu with fp32' in caplog.text
    failed = [one for one in booted.survey.choice.verdicts if one.profile.name == "cpu-fp16-onnx"]
    assert "supports cpu with fp32 or int8" in failed[0].reason


def test_a_pinned_profile_is_never_replaced(tmp_path: Path) -> None:
    """The worker ends with the reason instead."""
    path = manifest(tmp_path, FP32, FP16)
    with pytest.raises(
        ProfileError, match=r"pinned.*cpu-fp16-onnx.*supports cpu with fp32 or int8"
    ) as failed:
        boot(Settings(model="minilm", manifest_path=path, model_profile="cpu-fp16-onnx"))
    assert failed.value.exit_code != 0


def test_wrong_vectors_do_not_serve(tmp_path: Path) -> None:
    """A profile whose vectors are not the golden ones is refused, with the cosine seen."""
    path = manifest(tmp_path, FP32)
    golden = tmp_path / "golden" / f"{MODEL}.json"
    fields = json.loads(golden.read_text())
    fields["texts"].reverse()
    golden.write_text(json.dumps(fields))
    with pytest.raises(
        ProfileError,
        match=r"to the golden vectors the worst cosine is -?0\.\d+, the minimum is 0\.99999 \(",
    ):
        boot(Settings(model="minilm", manifest_path=path))


def test_the_manifest_says_which_prompts_input_types_get(tmp_path: Path) -> None:
    """And adds those that the model's files lack; a name that neither has ends the boot."""
    fake = {**FP32, "backend": "fake"}
    prompts = {"find": "find: ", "passage": ""}
    path = manifest(tmp_path, fake, golden=False, prompts=prompts, input_types={"query": "find"})
    settings = Settings(model=MODEL, manifest_path=path, cache_path=tmp_path / "cache")
    found = boot(settings).prompts
    assert found.chosen(EmbedOptions(input_type="query")) == Prompt("find", "find: ")
    assert found.chosen(EmbedOptions(input_type="passage")) == Prompt("passage", "")
    manifest(tmp_path, fake, golden=False, prompts=prompts, input_types={"query": "search"})
    with pytest.raises(ModelError, match=r"input type query to the prompt 'search'.*find, passage"):
        boot(settings)


def test_a_pinned_profile_that_does_not_exist_is_an_error_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not one more line of information."""
    with pytest.raises(ProfileError):
        boot(Settings(model="minilm", model_profile="cpu-fp32-onx"))
    graves = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(graves) == 1
    assert "no matching profile_id or profile description is found in manifest" in graves[0]


def test_damaged_weights_do_not_serve(tmp_path: Path) -> None:
    """The manifest's hash is checked before anything is loaded."""
    path = manifest(tmp_path, FP32, weights_sha256="0" * 64)
    with pytest.raises(ModelError, match=r"have the SHA-256 53aa\w+, expected 0000"):
        boot(Settings(model="minilm", manifest_path=path))


NO_LIBRARIES, MIXED = (str(MACHINES / f"{name}.json") for name in ("cpu-no-libraries", "a100-and-l4"))


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["check", "--model", "fake/echo"], 0, "ok: profile fake, 384 dimensions"),
        (["check", "--model", "fake/echo", "--profile", "fakk"], 3, "Nearest: fake"),
        (["check", "--model", "/no/such/folder"], 1, "error [bad_model]: there is no directory /no/such"),
        (["check", "--model", "minilm", "-m", "/no/such.yaml"], 1, "error [bad_settings]: "),
        (["list-profiles", "--model", "minilm"], 0, "Selected profile: "),
        (["list-model-profiles", "--model", "minilm"], 0, "MODEL PROFILES"),
        (["explain", "--model", "minilm"], 0, "-onnx serves"),
        (["explain", "--model", "minilm", "--profile", "cpu-fp32-onx"], 3, "Nearest: cpu-fp32-onnx"),
        (["explain", "--model", "minilm", "--facts", NO_LIBRARIES], 4, "onnxruntime is not installed"),
        (["explain", "--model", "minilm", "--facts", MIXED], 0, "\n\nGPU 1 (NVIDIA A100-SXM4-40GB):\n"),
        (["explain", "--model", "minylm"], 1, "there is no model 'minylm': no manifest has that name"),
        (["explain", "--model", "minilm-l6-v2"], 1, "the nearest are sentence-transformers/all-MiniLM-L"),
        (["explain", "--model", "./no-such-folder"], 1, "there is no directory no-such-folder; name one"),
        (["explain", "--model", "tests"], 1, "tests has no config.json or modules.json, so it is no model's"),
        (["explain", "--model", "org/mine"], 0, "org/mine is not in the cache, and downloads are turned off"),
        (["list-profiles", "--model", "minylm"], 1, "there is no model 'minylm'"),
        (["convert", "/no/such/folder", "out"], 1, "there is no directory /no/such/folder; name one that"),
        (["convert", "minylm", "out"], 1, "there is no model 'minylm': no manifest has that name"),
        (["list-profiles", "--model", "minilm", "--profile", "fakk"], 3, "No profile selected: "),
        (["list-profiles", "--model", "minilm", "--facts", NO_LIBRARIES], 0, "No profile selected: "),
        (["list-profiles", "--model", "minilm", "--facts", MIXED], 0, "\nSelected on GPU 0 (NVIDIA L4): "),
        (["run", "--no-such-option"], 2, "No such option"),
    ],
)
def test_the_command_says_what_happened(arguments: list[str], status: int, says: str) -> None:
    """In one line and by its exit status, never with a traceback."""
    got = CliRunner().invoke(main, arguments, env={"EMBEDMILL_OFFLINE": "1"})
    assert (got.exit_code, says in got.output) == (status, True), got.output
    assert "Traceback" not in got.output


def test_the_listing_as_json_has_a_reason_for_every_profile_left_out() -> None:
    """For programs."""
    got = CliRunner().invoke(main, ["list-profiles", "--model", "minilm", "--format", "json"])
    profiles = json.loads(got.output)["profiles"]
    assert len(profiles) > 20
    assert all(one["reason"] for one in profiles if one["standing"] != "runnable")
