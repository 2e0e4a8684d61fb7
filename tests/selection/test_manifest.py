"""Our manifests: what they say, how they fail, which one a model gets, and what makes a profile's id."""

import json
import re
from dataclasses import replace
from pathlib import Path

import jsonschema
import pytest
import yaml
from support.paths import ROOT

from selection import ManifestError, load_manifest, manifest_for, manifests
from selection.manifests.catalog import manifest_at
from selection.manifests.manifest import with_id
from selection.manifests.manifest_file import shipped_profiles
from selection.manifests.reference import reference_page, schema_json

MINIMAL = """\
schema: 1
model:
  name: org/model
  weights_sha256: null
profiles:
  - name: one
    backend: onnx
    device: cpu
    precision: fp32
    min_cosine: 0.99999
"""
SCHEMA = json.loads((shipped_profiles() / "schema.json").read_text())


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "model.yaml"
    path.write_text(text)
    return path


def test_minimal_manifest(tmp_path: Path) -> None:
    """The least a manifest must say is enough, and everything else is unknown rather than guessed."""
    manifest = load_manifest(written(tmp_path, MINIMAL))
    (profile,) = manifest.profiles
    assert (profile.name, profile.backend, profile.device, profile.precision) == (
        "one",
        "onnx",
        "cpu",
        "fp32",
    )
    assert profile.generic
    assert dict(profile.tags) == {"type": "onnx", "precision": "fp32", "device": "cpu"}
    assert re.fullmatch("[0-9a-f]{64}", profile.id)
    assert manifest.model.weights_sha256 is None
    assert manifest.model.golden is None
    assert dict(manifest.model.prompts) == {}
    assert dict(manifest.model.input_types) == {}


def test_prompts_and_what_they_are_for(tmp_path: Path) -> None:
    """Any name may have a text, also an empty one, and an input type a name; null counts as left out."""
    prompts = "prompts: {clustering: 'sort: ', passage: '', query: null}\n  input_types: {query: s2p_query}"
    model = load_manifest(written(tmp_path, MINIMAL.replace("weights_sha256: null", prompts))).model
    assert dict(model.prompts) == {"clustering": "sort: ", "passage": ""}
    assert dict(model.input_types) == {"query": "s2p_query"}


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("precision: fp32", "precision: fp9", 9, "profiles[0].precision: must be one of fp8"),
        ("    device: cpu\n", "", 6, "profiles[0]: the key device is missing"),
        ("0.99999", "1.5", 10, "profiles[0].min_cosine: must be a number above 0"),
        ("0.99999", "nan", 10, "profiles[0].min_cosine: must be a number above 0"),
        ("  name: org/model\n", "", 3, "model: the key name is missing"),
        ("schema: 1", "schema: 2", 1, "schema: must be one of 1"),
        ("name: one", "nmae: one", 6, "profiles[0].nmae: is not a key here; known are name"),
        ("name: one", "name: a b", 6, "profiles[0].name: must be letters"),
        ("weights_sha256: null", "weights_sha256: abc", 4, "model.weights_sha256: must be 64"),
        ("weights_sha256: null", "hidden: 0", 4, "model.hidden: must be a whole number above 0"),
        ("weights_sha256: null", "name: twice", 4, "model.name: is given twice"),
        ("weights_sha256: null", "prompts: [document]", 4, "prompts: must be names of prompts, each"),
        ("weights_sha256: null", "input_types: {document: x}", 4, "input_types.document: is not a key"),
        ("weights_sha256: null", "input_types: {query: ''}", 4, "query: must be the name of a prompt"),
        (
            "    backend: onnx",
            "    requires: {gpus: [h100]}\n    backend: onnx",
            7,
            "requires.gpus[0]: must be",
        ),
        (
            "    backend: onnx",
            "    requires: {capabilities: [nine]}\n    backend: onnx",
            7,
            "compute capability",
        ),
        (
            "    backend: onnx",
            "    keep_16bit: [layers.0.out]\n    backend: onnx",
            7,
            "keep_16bit[0]: must be layers.<i>.qkv, .up or .down",
        ),
        (
            "    backend: onnx",
            "    keep_16bit: [layers.0.up]\n    backend: onnx",
            7,
            "keep_16bit: is only for the torch backend in fp8",
        ),
        ("schema: 1", "schema: 1\ninclude: [nothing]", 2, "include[0]: there is no set 'nothing'"),
        ("schema: 1", "schema: 1\ninclude: [cpu", 3, "is not YAML"),
        ("profiles:\n", "profiles: []\nrest:\n", 6, "rest: is not a key here"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    """A manifest that is wrong says the file, the line, the key and what belongs there."""
    path = written(tmp_path, MINIMAL.replace(old, new))
    with pytest.raises(ManifestError) as caught:
        load_manifest(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"- a list", b"\xff\xfe\x00", b"schema: 1\nmodel: {name: x}\nprofiles: []"]
)
def test_no_manifest_at_all(tmp_path: Path, content: bytes) -> None:
    """An empty file, a list, bytes that are not text, and a manifest without profiles are refused."""
    path = tmp_path / "model.yaml"
    path.write_bytes(content)
    with pytest.raises(ManifestError, match=r"model\.yaml"):
        load_manifest(path)
    with pytest.raises(ManifestError, match="cannot be read"):
        load_manifest(tmp_path / "absent.yaml")


def test_second_profile_of_one_name(tmp_path: Path) -> None:
    """Two profiles of one name are refused, also when one comes from a set."""
    text = MINIMAL.replace("name: one", "name: CPU-fp32-onnx").replace(
        "schema: 1", "schema: 1\ninclude: [cpu]"
    )
    with pytest.raises(ManifestError, match="a second profile is called CPU-fp32-onnx"):
        load_manifest(written(tmp_path, text))


def test_own_set_goes_before_a_shipped_one(tmp_path: Path) -> None:
    """A set beside the manifest replaces the shipped one of the same name."""
    (tmp_path / "sets").mkdir()
    own = MINIMAL[MINIMAL.index("profiles:") :].replace("name: one", "name: mine")
    (tmp_path / "sets" / "cpu.yaml").write_text(f"schema: 1\n{own}")
    head = MINIMAL[: MINIMAL.index("profiles:")]
    manifest = load_manifest(written(tmp_path, f"{head}include: [cpu]\n"))
    assert [profile.name for profile in manifest.profiles] == ["mine"]


def test_golden_vectors_lie_beside_the_manifest(tmp_path: Path) -> None:
    """golden/<name of the file>.json beside a manifest belongs to it."""
    path = written(tmp_path, MINIMAL)
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "model.json").write_text("{}")
    assert load_manifest(path).model.golden == tmp_path / "golden" / "model.json"


@pytest.mark.parametrize(
    "name", ["sentence-transformers/all-MiniLM-L6-v2", "ALL-minilm-l6-V2", "minilm", " MiniLM "]
)
def test_model_is_found_by_name_and_alias(name: str) -> None:
    """A model is found by its name, the part after the slash, or an alias, in any case."""
    assert manifest_for(name).model.name == "sentence-transformers/all-MiniLM-L6-v2"


def test_unknown_model_gets_the_generic_profiles(tmp_path: Path) -> None:
    """A model without a manifest gets the generic profiles under its own name, ids and source."""
    one, two = manifest_for("org/one"), manifest_for("org/two")
    assert (one.model.name, one.model.sources) == ("org/one", ("hf:org/one",))
    assert [profile.name for profile in one.profiles] == [profile.name for profile in two.profiles]
    assert {profile.id for profile in one.profiles}.isdisjoint(profile.id for profile in two.profiles)
    assert manifest_for("generic").model.name == "generic"
    assert manifest_for(str(tmp_path)).model.sources == (f"dir:{tmp_path}",)


def test_own_directory_goes_first(tmp_path: Path) -> None:
    """A manifest in a given directory goes before a shipped one of the same name."""
    path = written(tmp_path, MINIMAL.replace("org/model", "sentence-transformers/all-MiniLM-L6-v2"))
    assert manifest_for("minilm", directories=[tmp_path]).path != path
    assert manifest_for("all-minilm-l6-v2", directories=[tmp_path]).path == path


def test_id_follows_content_and_model() -> None:
    """A profile's id changes with its content and its model's weights, not with what people read."""
    manifest = manifest_for("minilm")
    profile = manifest.profiles[0]
    assert with_id(profile, manifest.model).id == profile.id
    assert with_id(replace(profile, why="for people"), manifest.model).id == profile.id
    assert with_id(replace(profile, min_cosine=0.5), manifest.model).id != profile.id
    assert with_id(replace(profile, min_mean_cosine=0.5), manifest.model).id != profile.id
    assert with_id(profile, replace(manifest.model, weights_sha256="0" * 64)).id != profile.id
    assert with_id(profile, replace(manifest.model, revision="main")).id != profile.id


def test_layers_kept_in_16_bit_make_another_profile(tmp_path: Path) -> None:
    """They are part of the id in whatever order they are named; without any, the id is that of the rest."""
    fp8 = MINIMAL.replace("onnx", "torch").replace("fp32", "fp8")
    ids = []
    for line in ("", "[layers.1.up, layers.0.down]", "[layers.0.down, layers.1.up]", "[layers.0.down]"):
        text = fp8 + (f"    keep_16bit: {line}\n" if line else "")
        jsonschema.validate(yaml.safe_load(text), SCHEMA)
        (profile,) = load_manifest(written(tmp_path, text)).profiles
        ids.append(profile.id)
    assert profile.keep_16bit == ("layers.0.down",)
    assert ids[1] == ids[2]
    assert len(set(ids)) == 3


def test_shipped_ids_are_unique() -> None:
    """No two shipped profiles share an id, over all models."""
    ids = [profile.id for manifest in manifests() for profile in manifest.profiles]
    assert len(set(ids)) == len(ids)


def test_shipped_profiles_state_no_bounds_of_their_own() -> None:
    """What they must reach follows from precision and depth."""
    for manifest in manifests():
        for profile in manifest.profiles:
            assert (profile.min_cosine, profile.min_mean_cosine) == (None, None), profile.name


def test_int8_only_where_products_of_bytes_are_exact() -> None:
    """Without VNNI their sums saturate, so every such profile asks for it."""
    shipped = [profile for manifest in manifests() for profile in manifest.profiles]
    found = [profile for profile in shipped if profile.precision == "int8"]
    assert found
    assert all("avx512_vnni" in profile.requires.cpu_features for profile in found)


def test_fp8_only_where_it_pays() -> None:
    """Encoders of 1024 units and more have fp8 profiles, and one of 768 whose own weights were measured."""
    of_encoders = {"bert", "xlm-roberta", "llama_bidirec"}
    for manifest in manifests():
        model = manifest.model
        has_fp8 = any(profile.precision == "fp8" for profile in manifest.profiles)
        is_measured = model.name == "sentence-transformers/all-mpnet-base-v2"
        is_wide = model.family in of_encoders and (model.hidden or 0) >= 1024
        assert has_fp8 == (is_wide or is_measured), model.name


def shipped_files() -> list[Path]:
    folder = shipped_profiles()
    return [*sorted(folder.glob("*.yaml")), *sorted((folder / "sets").glob("*.yaml"))]


@pytest.mark.parametrize("path", shipped_files(), ids=lambda path: path.stem)
def test_shipped_files_follow_the_schema(path: Path) -> None:
    """The JSON Schema that editors use accepts every shipped file."""
    jsonschema.validate(yaml.safe_load(path.read_text()), SCHEMA)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("precision: fp32", "precision: fp9"),
        ("    device: cpu\n", ""),
        ("0.99999", "1.5"),
        ("  name: org/model\n", ""),
        ("schema: 1", "schema: 2"),
        ("name: one", "nmae: one"),
        ("weights_sha256: null", "weights_sha256: abc"),
        ("weights_sha256: null", "hidden: 0"),
        ("    backend: onnx", "    requires: {gpus: [h100]}\n    backend: onnx"),
        ("    backend: onnx", "    requires: {capabilities: [nine]}\n    backend: onnx"),
    ],
)
def test_schema_refuses_what_we_refuse(old: str, new: str) -> None:
    """What the loader refuses, the JSON Schema refuses too."""
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(MINIMAL.replace(old, new)), SCHEMA)
    jsonschema.validate(yaml.safe_load(MINIMAL), SCHEMA)


def test_generated_files_are_fresh() -> None:
    """The JSON Schema and the reference page are what the models give: run selection.manifests.reference."""
    assert (shipped_profiles() / "schema.json").read_text() == schema_json()
    assert (ROOT / "docs" / "reference" / "manifest.md").read_text() == reference_page()


def test_every_key_is_explained() -> None:
    """The reference page has a meaning for every key the schema knows."""
    page = reference_page()
    for section in SCHEMA["$defs"].values():
        assert [key for key in section["properties"] if f"| `{key}` |" not in page] == [], section["title"]
    assert "| None |" not in page


@pytest.mark.parametrize(
    "text",
    [
        "&a [*a]",
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
        "[" * 100 + "]" * 100,
    ],
    ids=["loop", "explosion", "depth"],
)
def test_aliases_cannot_expand_without_end(tmp_path: Path, text: str) -> None:
    """A file that holds itself, multiplies itself or nests without end is refused in bounded time."""
    with pytest.raises(ManifestError, match=r"nested too deeply or has too many values|is not YAML"):
        load_manifest(written(tmp_path, text))


@pytest.mark.parametrize("value", ["null", ""])
def test_null_counts_as_left_out(tmp_path: Path, value: str) -> None:
    """A key without a value is as if it were not there, also one that must be."""
    text = MINIMAL.replace("  weights_sha256: null", f"  hidden: {value}\n  aliases: {value}")
    assert load_manifest(written(tmp_path, text)).model.aliases == ()
    with pytest.raises(ManifestError, match="the key name is missing"):
        load_manifest(written(tmp_path, MINIMAL.replace("name: org/model", f"name: {value}")))


def test_scalars_are_their_text(tmp_path: Path) -> None:
    """What YAML would take for a number or a truth value stays what is written."""
    requires = "    requires: {capabilities: [9.0], min_capability: 7.50}\n    tags: {padded: yes, n: 0x10}\n"
    (profile,) = load_manifest(written(tmp_path, MINIMAL + requires)).profiles
    assert profile.requires.capabilities == ((9, 0),)
    assert profile.requires.min_capability == (7, 50)
    assert (profile.tags["padded"], profile.tags["n"]) == ("yes", "0x10")


def test_a_file_of_either_kind_is_read(tmp_path: Path) -> None:
    """NIM_MANIFEST_PATH may name one of our manifests or of NIM's."""
    assert manifest_at(written(tmp_path, MINIMAL)).model.name == "org/model"
    nim = tmp_path / "model_manifest.yaml"
    nim.write_text(f"{'a' * 64}:\n  tags: {{backend: onnx, precision: fp16}}\n")
    manifest = manifest_at(nim, model="minilm")
    assert manifest.model.name == "sentence-transformers/all-MiniLM-L6-v2"
    assert manifest.profiles[0].id == "a" * 64
