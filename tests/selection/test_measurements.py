"""The cache of measurements: what is kept, under what key, and what is passed over."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
from support.paths import MACHINES

from selection import (
    Measurement,
    MeasurementKey,
    load_facts,
    load_measurements,
    manifest_for,
    measurement_key,
    store_measurement,
)

KEY = MeasurementKey(
    profile_id="a" * 64,
    model="org/model",
    revision="1",
    device="NVIDIA L4",
    driver="580",
    runtime="torch 2.13.0",
    length_mix="mean 177",
)
FAST = Measurement(
    profile_id="a" * 64,
    tokens_per_s=1e6,
    texts_per_s=1e4,
    memory_bytes=5,
    worst_cosine=0.9999,
    mean_cosine=0.99999,
    min_cosine=0.9998,
    min_mean_cosine=0.9999,
    load_s=2.5,
)


def test_what_is_stored_is_loaded(tmp_path: Path) -> None:
    """A measurement comes back under its key, the latest one wins, and no temporary file stays."""
    store_measurement(tmp_path / "new", KEY, FAST)
    store_measurement(tmp_path / "new", KEY, replace(FAST, tokens_per_s=2e6))
    assert load_measurements(tmp_path / "new", [KEY]) == {"a" * 64: replace(FAST, tokens_per_s=2e6)}
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("name", [field.name for field in fields(MeasurementKey)])
def test_every_part_of_the_key_counts(tmp_path: Path, name: str) -> None:
    """Another model, device, driver, library or length mix is another measurement."""
    store_measurement(tmp_path, KEY, FAST)
    assert load_measurements(tmp_path, [replace(KEY, **{name: "other"})]) == {}


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 1}', '{"format": 99, "key": {}, "measurement": {}}']
)
def test_foreign_files_count_as_absent(tmp_path: Path, text: str) -> None:
    """A truncated or foreign cache file is as if nothing had been measured."""
    path = store_measurement(tmp_path, KEY, FAST)
    path.write_text(text)
    assert load_measurements(tmp_path, [KEY]) == {}
    assert load_measurements(tmp_path / "absent", [KEY]) == {}


def test_file_of_another_key_counts_as_absent(tmp_path: Path) -> None:
    """A cache file says itself what it is of; one put under another's name is not believed."""
    other = replace(KEY, device="NVIDIA L40S")
    store_measurement(tmp_path, other, FAST).write_bytes(store_measurement(tmp_path, KEY, FAST).read_bytes())
    assert load_measurements(tmp_path, [other]) == {}


def test_unwritable_folder(tmp_path: Path) -> None:
    """Where nothing can be written, the error is the system's, and nothing half-written stays."""
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        store_measurement(tmp_path / "file" / "folder", KEY, FAST)


def test_key_of_a_profile() -> None:
    """The key names device, driver and library of the profile on this machine; the CPU has no driver."""
    facts, manifest = load_facts(MACHINES / "h100-sxm-mig-1g.json"), manifest_for("minilm")
    by_name = {profile.name: profile for profile in manifest.profiles}
    key = measurement_key(
        by_name["cuda-fp16-onnx"], manifest.model, facts, gpu=facts.gpus[0], length_mix="mean 177"
    )
    assert (key.device, key.driver) == ("NVIDIA H100 80GB HBM3 1g.10gb", "580.95.05")
    assert key.runtime == "onnxruntime-gpu 1.31.1"
    assert key.revision == manifest.model.revision
    on_cpu = measurement_key(by_name["cpu-fp32-onnx"], manifest.model, facts, gpu=None, length_mix="mean 177")
    assert (on_cpu.device, on_cpu.driver) == ("x16", "")
