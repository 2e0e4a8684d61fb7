"""NIM's own manifests, both versions, as published examples have them."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.paths import MACHINES

from selection import Manifest, ManifestError, choose, load_facts, load_nim_manifest, manifest_for
from selection.machine.facts import Gpu

ONNX_ID, A10G_ID, LLM_ID = "2a" * 32, "72" * 32, "03" * 32

VERSION_1 = f"""\
{ONNX_ID}:
  model: nvidia/embedder
  release: '1.0.0'
  tags: {{backend: onnx, key: onnx, precision: fp16}}
  workspace: !workspace
    components:
    - dst: ''
      src:
        repo_id: nim/nvidia/embedder
        files:
        - !name 'config.json'
{A10G_ID}:
  model: nvidia/embedder
  tags: {{backend: tensorrt, key: NVIDIA-A10G_10.0.1_12, precision: fp16,
    product_name_regex: '^NVIDIA-A10(?!0).*'}}
{LLM_ID}:
  model: nvidia/embedder
  tags: {{gpu: L40S, gpu_device: 26b9:10de, llm_engine: tensorrt_llm, pp: '1', precision: fp16, tp: '8'}}
"""

VERSION_2 = f"""\
schema_version: 2.0.0
profile_selection_criteria: default
profiles:
- id: {"aa" * 32}
  tags: {{model_type: tensorrt, precision: fp8, compute_capability: '9.0'}}
  workspace:
    files:
      model.plan: {{uri: 'ngc://nim/nvidia/embedder:1?file=model.plan'}}
- id: {"bb" * 32}
  tags: {{model_type: tensorrt, precision: fp8, gpu: NVIDIA-H100-80GB-HBM3}}
- id: {"cc" * 32}
  tags: {{model_type: onnx, precision: fp16}}
- id: {"dd" * 32}
  tags: {{model_type: tensorrt, precision: fp16, gpu: L4}}
- id: {"ee" * 32}
  tags: {{model_type: tensorrt, precision: fp16, gpu: H20}}
"""


def loaded(tmp_path: Path, text: str) -> Manifest:
    path = tmp_path / "model_manifest.yaml"
    path.write_text(text)
    return load_nim_manifest(path)


def reasons(manifest: Manifest, machine: str, **gpu: object) -> dict[str, str]:
    facts = load_facts(MACHINES / f"{machine}.json")
    if gpu:
        facts = replace(facts, gpus=(Gpu(index=0, **gpu),))  # type: ignore[arg-type]
    choice = choose(facts, manifest, policy="rules", build_engines=True)
    return {verdict.profile.id[:2]: verdict.reason for verdict in choice.verdicts}


def test_version_1(tmp_path: Path) -> None:
    """A map by profile id, with NIM's YAML tags, gives profiles under those ids with all their tags."""
    manifest = loaded(tmp_path, VERSION_1)
    assert manifest.model.name == "nvidia/embedder"
    assert [profile.id for profile in manifest.profiles] == [ONNX_ID, A10G_ID, LLM_ID]
    onnx, a10g, llm = manifest.profiles
    assert (onnx.backend, onnx.precision, onnx.name, onnx.generic) == ("onnx", "fp16", "fp16-onnx", True)
    assert a10g.name == "nvidia-a10g-10.0.1-12-fp16-tensorrt"
    assert llm.requires.num_gpus == 8
    assert dict(llm.tags)["gpu_device"] == "26b9:10de"


def test_version_2(tmp_path: Path) -> None:
    """A list with ids gives the same, and the file's folder names the model, which version 2 does not."""
    manifest = loaded(tmp_path, VERSION_2)
    assert manifest.model.name == tmp_path.name
    assert manifest.profiles[0].requires.capabilities == ((9, 0),)
    assert [profile.id[:2] for profile in manifest.profiles] == ["aa", "bb", "cc", "dd", "ee"]


def test_regex_fits_a10g_and_not_a100(tmp_path: Path) -> None:
    """NIM's negative lookahead works: A10 and A10G fit, A100 does not."""
    manifest = loaded(tmp_path, VERSION_1)
    assert "is for" not in reasons(manifest, "a10g")["72"]
    assert "is for" not in reasons(manifest, "a10")["72"]
    assert "is for the GPU model ^NVIDIA-A10(?!0).*" in reasons(manifest, "a100-sxm4-80gb")["72"]


def test_gpu_names_are_whole_names(tmp_path: Path) -> None:
    """A tag `L4` is not an L40S, `H20` is not an H200, and an H100 tag is neither an H100 NVL nor a GH200."""
    manifest = loaded(tmp_path, VERSION_2)
    assert "is for" not in reasons(manifest, "l4")["dd"]
    assert "is for the GPU model" in reasons(manifest, "l40s")["dd"]
    assert "is for" not in reasons(manifest, "h20")["ee"]
    assert "is for the GPU model" in reasons(manifest, "h200")["ee"]
    assert "is for" not in reasons(manifest, "h100-sxm")["bb"]
    assert "is for the GPU model" in reasons(manifest, "h100-nvl")["bb"]
    assert "is for" not in reasons(manifest, "h100-nvl")["aa"]


def test_mig_slice_is_not_its_gpu(tmp_path: Path) -> None:
    """An engine for an H100, by name or PCI id, is not for a slice of one; one for the capability is."""
    text = VERSION_2.replace("gpu: L4}", "gpu_device: '2330:10de'}")
    found = reasons(loaded(tmp_path, text), "h100-sxm-mig-1g")
    assert "this is its MIG slice 1g.10gb" in found["bb"]
    assert "this is its MIG slice 1g.10gb" in found["dd"]
    assert "is for" not in found["aa"]


def test_prebuilt_engines_are_for_x86(tmp_path: Path) -> None:
    """On a GH200 an engine of capability 9.0 is refused for the architecture; ONNX runs."""
    found = reasons(loaded(tmp_path, VERSION_2), "gh200")
    assert found["aa"] == "is for x86_64 hosts, this one is aarch64"
    assert found["cc"] == ""


def test_pci_id_and_foreign_backend(tmp_path: Path) -> None:
    """A GPU is known by its PCI id too; eight GPUs are not one; a backend we lack is incompatible."""
    manifest = loaded(tmp_path, VERSION_1)
    l40s = {"name": "Unnamed", "pci_id": "26b9:10de", "capability": (8, 9)}
    assert reasons(manifest, "l40s", **l40s)["03"] == "needs 8 equal GPUs, 1 available here"
    one = replace(manifest.profiles[2], requires=replace(manifest.profiles[2].requires, num_gpus=1))
    found = reasons(replace(manifest, profiles=(one,)), "l40s", **l40s)
    assert found["03"] == "there is no backend tensorrt_llm for cuda"


def test_unknown_precision(tmp_path: Path) -> None:
    """A precision we have no name for ranks after all others, and its memory is counted as fp32."""
    path = tmp_path / "model_manifest.yaml"
    tags = ("precision: mxfp4", "precision: fp32", "model_type: onnx")
    rows = zip("abc", tags, strict=True)
    path.write_text("".join(f"{digit * 64}:\n  tags: {{backend: onnx, {tag}}}\n" for digit, tag in rows))
    manifest = load_nim_manifest(path, model=manifest_for("minilm").model)
    choice = choose(load_facts(MACHINES / "h100-sxm.json"), manifest, policy="rules")
    assert [profile.precision for profile in choice.candidates] == ["fp32", "mxfp4", "unknown"]
    needed = {verdict.needed_bytes for verdict in choice.verdicts}
    assert len(needed) == 1
    assert None not in needed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}\n", "has no profiles"),
        ("schema_version: 2.0.0\nprofiles: []\n", "has no profiles"),
        ("schema_version: 2.0.0\nprofiles:\n- tags: {}\n", ":3: profiles[0]: the key id is missing"),
        ("aa:\n  model: x\n", ":2: aa: the key tags is missing"),
        ("aa:\n  tags: {tp: two}\n", ":2: aa.tags: tp must be a whole number"),
        ("aa:\n  tags: {product_name_regex: '('}\n", ":2: aa.tags: product_name_regex is not a regular"),
        ("aa:\n  tags: {compute_capability: nine}\n", ":2: aa.tags: compute_capability must have the form"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    """A NIM manifest that cannot be understood says where and why."""
    with pytest.raises(ManifestError) as caught:
        loaded(tmp_path, text)
    assert says in str(caught.value)


def test_names_are_unique(tmp_path: Path) -> None:
    """Profiles that would share a name get the head of their id, so that each can be pinned by name."""
    text = "".join(f"{digit * 64}:\n  tags: {{backend: onnx, precision: fp16}}\n" for digit in "ab")
    names = [profile.name for profile in loaded(tmp_path, text).profiles]
    assert names == ["fp16-onnx-aaaaaaaa", "fp16-onnx-bbbbbbbb"]
