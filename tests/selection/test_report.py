"""The listing, its JSON, the boot log and the story: what people and programs read."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from support.paths import MACHINES

from selection import (
    Choice,
    Facts,
    GpuChoice,
    Standing,
    choose,
    explain,
    explain_fleet,
    is_mixed,
    listing,
    listing_json,
    load_facts,
    manifest_for,
    with_failure,
)


def seen(machine: str, model: str = "minilm", **options: str) -> tuple[Facts, Choice]:
    facts = load_facts(MACHINES / f"{machine}.json")
    return facts, choose(facts, manifest_for(model), policy="rules", **options)  # type: ignore[arg-type]


def section(text: str, heading: str) -> list[str]:
    """The lines between a heading and the next one."""
    body = text.split(f"- {heading}:", 1)[1].splitlines()[1:]
    ends = [index for index, line in enumerate(body) if not line.startswith("  ")]
    return body[: ends[0]] if ends else body


def test_listing_has_nims_sections() -> None:
    """SYSTEM INFO and MODEL PROFILES stand in NIM's order, GPUs and profiles in its line formats."""
    text = listing(*seen("h100-sxm"))
    assert text.startswith("SYSTEM INFO\n- Free GPUs:\n  -  [2330:10de] (0) NVIDIA H100 80GB HBM3 ")
    assert "[current utilization: 0%]" in text
    assert (
        text.index("SYSTEM INFO")
        < text.index("\nMODEL PROFILES")
        < text.index("- Compatible with system and")
    )
    runnable = section(text, "Compatible with system and runnable")
    assert all(re.fullmatch(r"  - [0-9a-f]{64} \([a-z0-9-]+\)", line) for line in runnable)
    assert runnable[0].endswith("(sm90-fp16-torch)")


@pytest.mark.parametrize("path", sorted(MACHINES.glob("*.json")), ids=lambda path: path.stem)
def test_listing_shows_every_profile_once(path: Path) -> None:
    """On every machine each profile is listed exactly once, and all that do not run with a reason below."""
    facts, choice = seen(path.stem, "e5-large-v2")
    text = listing(facts, choice)
    lines = text.splitlines()
    for verdict in choice.verdicts:
        (at,) = [
            index
            for index, line in enumerate(lines)
            if line == f"  - {verdict.profile.id} ({verdict.profile.name})"
        ]
        has_reason = at + 1 < len(lines) and lines[at + 1].startswith("      ")
        assert has_reason == (verdict.standing is not Standing.RUNNABLE)


def test_listing_of_a_full_gpu() -> None:
    """A GPU without free memory is non-free, and its profiles stand under low memory with the GiB needed."""
    text = listing(*seen("h100-sxm-full"))
    assert "- Free GPUs: <None>\n- Non-free GPUs:\n  -  [2330:10de] (0)" in text
    low = section(text, "Compatible with system but not runnable due to low free memory")
    assert any(
        re.search(r"needs \d+\.\d GiB for batches of \d+ tokens, 0\.4 GiB is free", line) for line in low
    )


def test_listing_says_why_there_is_no_gpu() -> None:
    """Hidden GPUs and broken drivers are named once, in SYSTEM INFO."""
    assert "- Hidden GPUs:\n  -  [2330:10de] (0)" in listing(*seen("h100-sxm-hidden"))
    assert listing(*seen("gpu-broken-driver")).count("Driver/library version mismatch") == 1


def test_listing_without_gpu_shows_what_a_gpu_could_run() -> None:
    """With NIM_CPU_ONLY every GPU profile is listed with the GPU it is for."""
    text = listing(*seen("cpu-only-asked"))
    assert "(h100-hbm3-80gb-fp16-tensorrt)\n      needs a GPU of the model h100-hbm3-80gb\n" in text
    assert "(sm90-fp16-torch)\n      needs a GPU of compute capability 9.0\n" in text


def test_listing_of_nothing_runnable() -> None:
    """An empty section says <None>, and the last line says that nothing was selected."""
    text = listing(*seen("cpu-no-libraries"))
    assert "- Compatible with system and runnable: <None>\n" in text
    assert text.splitlines()[-1].startswith("No profile selected: Could not find a profile")


def test_json_carries_everything() -> None:
    """The JSON has every profile with standing, cause and reason, the choice, and the machine."""
    facts, choice = seen("l4", "e5-large-v2")
    content = json.loads(listing_json(facts, choice))
    assert set(content) == {
        "format",
        "model",
        "policy",
        "selected",
        "pinned",
        "candidates",
        "gpus",
        "error",
        "exit_code",
        "profiles",
        "system",
    }
    assert content["selected"] == choice.candidates[0].id == content["candidates"][0]
    assert len(content["profiles"]) == len(choice.verdicts)
    by_name = {entry["name"]: entry for entry in content["profiles"]}
    assert by_name["l40s-fp8-tensorrt"]["cause"] == "gpu_model"
    assert by_name["l4-fp8-tensorrt"]["standing"] == "buildable"
    assert by_name["cuda-fp16-onnx"]["gpu"] == 0
    assert content["system"]["gpus"][0]["capability"] == "8.9"


def test_boot_log() -> None:
    """The boot log names what is runnable, what was selected, and its tags, a line each."""
    _, choice = seen("l4")
    lines = choice.log_lines()
    assert lines[:3] == (
        "MODEL PROFILES",
        "- Compatible with system and runnable:",
        "  - cuda-fp16-torch  (type=torch,precision=fp16,device=cuda)",
    )
    selected = choice.candidates[0]
    at = lines.index(f"Selected profile: {selected.id} (cuda-fp16-torch)")
    assert lines[at + 1 :] == (
        "Profile metadata: type: torch",
        "Profile metadata: precision: fp16",
        "Profile metadata: device: cuda",
    )


def test_boot_log_without_choice() -> None:
    """Without a profile the error is NIM's sentence and the machine; low memory is counted."""
    choice = seen("cpu-no-libraries")[1]
    assert choice.log_lines() == ("MODEL PROFILES", "- Compatible with system and runnable: <None>")
    lines = (choice.error or "").splitlines()
    assert lines[0].startswith("Could not find a profile that is currently runnable")
    assert lines[1] == "SYSTEM INFO"
    full = seen("h100-sxm-full")[1].log_lines()
    assert sum("currently not runnable due to low free GPU memory" in line for line in full) == 1


def test_a_failure_is_shown() -> None:
    """A profile that failed here stands in its own section with the reason, and the next is selected."""
    facts, choice = seen("h100-sxm-onnx-only")
    text = listing(facts, with_failure(choice, choice.candidates[0].id, "worst cosine 0.42"))
    assert section(text, "Failed to load or verify on this system") == [
        f"  - {choice.candidates[0].id} (cuda-fp16-onnx)",
        "      worst cosine 0.42",
    ]
    assert text.splitlines()[-1].endswith("(cuda-fp32-onnx), policy rules")


def test_story() -> None:
    """The story names the chosen profile and device, and every better-ranked profile's obstacle."""
    facts, choice = seen("h100-sxm-without-tensorrt", "e5-large-v2")
    text = explain(facts, choice)
    assert text.startswith(
        "sm90-fp8-torch serves intfloat/e5-large-v2 (335.1 M parameters, 24 layers of 1024) on GPU 0"
    )
    assert "h100-hbm3-80gb-fp8-tensorrt, sm90-fp8-tensorrt" in text
    assert "tensorrt is not installed (pip install 'embedmill[tensorrt]')" in text
    assert "profiles are for another GPU model" in text
    assert "the next are: sm90-fp16-torch" in text


def test_story_of_a_pinned_profile_and_of_none() -> None:
    """A pinned profile is reported as pinned; without one the story begins with the error."""
    facts, choice = seen("h100-sxm", override="cuda-fp32-onnx")
    assert "because it is pinned" in explain(facts, choice)
    better = explain(facts, choice).split("Ranked better, but not chosen:")[1]
    assert "sm90-fp16-torch" in better
    assert "cpu-fp32-onnx:" not in better
    facts, choice = seen("cpu-no-libraries")
    assert explain(facts, choice).startswith("Could not find a profile")
    assert "onnxruntime is not installed (pip install 'embedmill[cpu]')" in explain(facts, choice)


def of_each_gpu(facts: Facts, model: str, **options: str) -> list[GpuChoice]:
    """What the worker process of each GPU chooses."""
    alone = {gpu: replace(facts, gpus=(gpu,)) for gpu in facts.gpus}
    return [
        GpuChoice(gpu, choose(one, manifest_for(model), policy="rules", **options))  # type: ignore[arg-type]
        for gpu, one in alone.items()
    ]


def test_the_story_of_a_mixed_fleet_is_told_gpu_by_gpu() -> None:
    """What each would serve with, and its own obstacles; the listing ends in a line for each."""
    facts, choice = seen("a100-and-l4", "e5-large-v2")
    t4 = replace(facts.gpus[0], index=2, name="Tesla T4", capability=(7, 5), uuid="GPU-2", pci_id="1eb8:10de")
    facts = replace(facts, gpus=(*facts.gpus, t4))
    each_gpu = of_each_gpu(facts, "e5-large-v2")
    assert is_mixed(each_gpu)
    l4, a100, turing = explain_fleet(facts, each_gpu).split("\n\n")[1:]
    assert l4.startswith("GPU 0 (NVIDIA L4):\ncuda-fp16-torch serves intfloat/e5-large-v2")
    assert "- l4-fp8-tensorrt, sm89-fp8-tensorrt, l4-fp16-tensorrt, sm89-fp16-tensorrt: has no plan yet" in l4
    assert a100.startswith("GPU 1 (NVIDIA A100-SXM4-40GB):\ncuda-fp16-torch serves")
    assert "- a100-sxm4-40gb-fp16-tensorrt, sm80-fp16-tensorrt: has no plan yet" in a100
    assert "on GPU 1 (NVIDIA A100-SXM4-40GB), by the policy 'rules'" in a100
    assert turing.startswith("GPU 2 (Tesla T4):\ncuda-fp16-onnx serves")
    ends = listing(facts, choice, each_gpu=each_gpu).splitlines()[-3:]
    assert [line.partition(":")[0] for line in ends] == [
        "Selected on GPU 0 (NVIDIA L4)",
        "Selected on GPU 1 (NVIDIA A100-SXM4-40GB)",
        "Selected on GPU 2 (Tesla T4)",
    ]
    assert ends[2].endswith(" (cuda-fp16-onnx)")
    chosen = json.loads(listing_json(facts, choice, each_gpu=each_gpu))["gpus"]
    assert [one["selected"] for one in chosen] == [one.choice.candidates[0].id for one in each_gpu]


def test_a_gpu_that_cannot_serve_beside_one_that_can() -> None:
    """It gets no worker process, though a CPU profile could run; why stands in its part of the story."""
    facts, choice = seen("h100-sxm-two-first-full")
    each_gpu = of_each_gpu(facts, "minilm")
    full, free = explain_fleet(facts, each_gpu).split("\n\n")[1:]
    assert full.startswith("GPU 0 (NVIDIA H100 80GB HBM3):\nNo worker process serves on it:\n- ")
    assert "0.4 GiB is free" in full
    assert "cpu-fp32-onnx" not in full
    assert free.startswith("GPU 1 (NVIDIA H100 80GB HBM3):\nsm90-fp16-torch serves")
    assert "Selected on GPU 0 (NVIDIA H100 80GB HBM3): nothing" in listing(facts, choice, each_gpu=each_gpu)


@pytest.mark.parametrize("machine", ["h100-sxm-two", "h100-sxm", "h100-sxm-full", "cpu-x86"])
def test_gpus_that_choose_alike_are_no_mixed_fleet(machine: str) -> None:
    """Nor are those that all leave the work to the CPU: the story is told once."""
    facts, choice = seen(machine)
    each_gpu = of_each_gpu(facts, "minilm")
    assert not is_mixed(each_gpu)
    assert listing(facts, choice, each_gpu=each_gpu) == listing(facts, choice)
