"""Settings come from the environment, under our names and NIM's."""

import os
from pathlib import Path

import pytest

from producer.errors import SettingsError
from worker.cli.unknown_variables import warn_of_unknown_variables
from worker.settings import read_settings


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("EMBEDMILL_", "NIM_", "HF_HUB")):
            monkeypatch.delenv(name)


@pytest.mark.parametrize("name", ["EMBEDMILL_MODEL_PROFILE", "NIM_MODEL_PROFILE"])
def test_nim_names_are_aliases(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes from NIM keeps his environment."""
    monkeypatch.setenv(name, "some-profile")
    assert read_settings().model_profile == "some-profile"


def test_our_name_wins_and_options_win_over_both(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearer to the command, the stronger."""
    monkeypatch.setenv("NIM_CACHE_PATH", "/nim")
    monkeypatch.setenv("EMBEDMILL_CACHE_PATH", "~/ours")
    assert read_settings().cache_path == Path("~/ours").expanduser()
    assert read_settings(cache_path="/option").cache_path == Path("/option")
    assert read_settings(cache_path=None).cache_path == Path("~/ours").expanduser()


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("EMBEDMILL_LEASE_S", "soon", "EMBEDMILL_LEASE_S: .*valid number"),
        ("EMBEDMILL_MAX_TRIES", "0", "EMBEDMILL_MAX_TRIES: .*greater than or equal to 1"),
        ("EMBEDMILL_BUILD_ENGINES", "always", "EMBEDMILL_BUILD_ENGINES: .*'never' or 'missing'"),
        ("EMBEDMILL_POLICY", "fastest", "EMBEDMILL_POLICY: .*'rules' or 'measured'"),
        ("EMBEDMILL_WORKERS_PER_GPU", "many", "EMBEDMILL_WORKERS_PER_GPU: .*valid integer"),
        ("NIM_LOG_LEVEL", "loud", "LOG_LEVEL"),
    ],
)
def test_a_bad_value_is_told_by_its_name(
    name: str, value: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And by what it may be."""
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=says):
        read_settings()


def test_a_port_can_be_closed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """NIM's name opens it too; ours, left empty, closes what an image or NIM's name has opened."""
    assert read_settings().metrics_port is None
    monkeypatch.setenv("NIM_HTTP_API_PORT", "8000")
    assert read_settings().metrics_port == 8000
    monkeypatch.setenv("EMBEDMILL_METRICS_PORT", "")
    assert read_settings().metrics_port is None


def test_a_misspelled_variable_is_told_with_the_nearest(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody reads it, which would otherwise not be noticed; variables of others are theirs."""
    variables = ("MODEL", "SELECTION_POLICY", "CACHE_DIR", "SURPRISE_PARTY")
    warn_of_unknown_variables({"NIM_WHATEVER": "1", **{f"EMBEDMILL_{name}": "1" for name in variables}})
    assert [each.getMessage().partition("unknown_variable ")[2] for each in caplog.records] == [
        "name=EMBEDMILL_CACHE_DIR nearest=EMBEDMILL_CACHE_PATH",
        "name=EMBEDMILL_SURPRISE_PARTY nearest=none",
    ]


def test_two_ways_to_pin_contradict_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both and the way out."""
    monkeypatch.setenv("NIM_MODEL_PROFILE", "a")
    monkeypatch.setenv("NIM_TAGS_SELECTOR", "precision=fp16")
    with pytest.raises(SettingsError, match=r"MODEL_PROFILE and EMBEDMILL_TAGS_SELECTOR are both set.*unset"):
        read_settings()


def test_the_queue_is_named_after_what_producers_ask_for() -> None:
    """The served name, or the model's."""
    assert read_settings(model="a/b").name == "a/b"
    assert read_settings(model="a/b", served_model_name="c").name == "c"
