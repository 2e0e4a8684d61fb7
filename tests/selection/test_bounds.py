"""Bounds: how close to fp32 a format's vectors must be at a depth, and what manifests may state instead."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selection import CosineBounds, Profile, cosine_bounds, load_manifest
from selection.bounds import rounding_bounds
from selection.manifests.manifest import PRECISIONS

depths = st.integers(1, 200)
PROFILE = Profile(id="", name="one", backend="torch", device="cuda", precision="bf16")


@given(depths)
def test_finer_formats_owe_more_at_every_depth(layers: int) -> None:
    """fp32 most, then fp16, bf16, and those of 8 bit; the mean more than the worst."""
    bounds = [rounding_bounds(each, layers=layers) for each in ("fp32", "fp16", "bf16", "fp8", "int8")]
    assert [each.worst for each in bounds[:4]] == sorted((each.worst for each in bounds[:4]), reverse=True)
    assert bounds[4].mean < bounds[3].mean
    assert all(each.worst <= each.mean < 1 for each in bounds)


@given(depths, st.sampled_from(PRECISIONS))
def test_deeper_networks_owe_no_more(layers: int, precision: str) -> None:
    """Each layer rounds once more."""
    one, two = (rounding_bounds(precision, layers=each) for each in (layers, layers + 1))
    assert two.worst <= one.worst
    assert two.mean <= one.mean


@pytest.mark.parametrize(
    ("precision", "layers", "worst", "mean"),
    [
        ("bf16", 6, 0.99993, 0.99997),  # all-MiniLM-L6-v2, H100
        ("bf16", 12, 0.99990, 0.99997),  # all-mpnet-base-v2, H100, before its sum was added in the norm
        ("bf16", 28, 0.999878, 0.9999),  # Qwen3-0.6B's shape, H100
        ("bf16", 30, 0.99932, 0.99984),  # SmolLM2-135M
        ("bf16", 36, 0.99942, 0.9995),  # Qwen3-4B's shape, H100
        ("fp16", 6, 0.999997, 0.999998),
        ("fp8", 6, 0.9924, 0.9972),
        ("fp8", 12, 0.989, 0.9971),  # MPNet's empty text
        ("fp8", 30, 0.9884, 0.99525),
        ("int8", 6, 0.975, 0.996),
        ("int8", 12, 0.9497, 0.9916),
    ],
)
def test_what_sound_networks_gave_serves(precision: str, layers: int, worst: float, mean: float) -> None:
    """Measured (docs/lab/bounds.md), most of it on real weights."""
    assert rounding_bounds(precision, layers=layers).shortfall(worst=worst, mean=mean) is None


@pytest.mark.parametrize(
    ("precision", "layers", "mean"),
    [
        *((precision, 6, 0.91) for precision in PRECISIONS),  # two layers of MiniLM swapped, the mildest pair
        *((precision, 30, 0.9836) for precision in ("fp8", "fp16", "bf16")),  # of SmolLM2
        *((precision, 36, 0.99882) for precision in ("fp16", "bf16")),  # the last two of a random decoder
    ],
)
def test_what_spoiled_networks_gave_does_not(precision: str, layers: int, mean: float) -> None:
    """Even if only the mean tells it."""
    said = rounding_bounds(precision, layers=layers).shortfall(worst=mean, mean=mean)
    assert said is not None
    assert f"({precision} in {layers} layers)" in said


def test_a_cosine_that_is_no_number_is_too_low() -> None:
    """NaN is below every bound."""
    assert CosineBounds(worst=-1.0).shortfall(worst=float("nan"), mean=1.0) is not None
    assert CosineBounds(worst=-1.0).shortfall(worst=1.0, mean=float("nan")) is not None


def test_a_manifest_may_state_bounds_instead() -> None:
    """A worst replaces the rule whole, stricter or laxer; a mean alone stands beside the rule's worst."""
    rule = cosine_bounds(PROFILE, layers=28)
    assert rule == rounding_bounds("bf16", layers=28)
    for stated in (0.99999, 0.9):
        bounds = cosine_bounds(replace(PROFILE, min_cosine=stated), layers=28)
        assert (bounds.worst, bounds.mean) == (stated, -1.0)
    both = cosine_bounds(replace(PROFILE, min_cosine=0.9, min_mean_cosine=0.95), layers=28)
    assert (both.worst, both.mean) == (0.9, 0.95)
    mean = cosine_bounds(replace(PROFILE, min_mean_cosine=0.99999), layers=28)
    assert (mean.worst, mean.mean) == (rule.worst, 0.99999)


def test_a_manifest_needs_to_state_none(tmp_path: Path) -> None:
    """The key is optional, and part of the id where it is given."""
    profile = "  - {name: one, backend: onnx, device: cpu, precision: fp32%s}\n"
    ids = []
    for stated in ("", ", min_cosine: 0.9"):
        path = tmp_path / "model.yaml"
        path.write_text("schema: 1\nmodel: {name: org/model}\nprofiles:\n" + profile % stated)
        (loaded,) = load_manifest(path).profiles
        ids.append(loaded.id)
    assert ids[0] != ids[1]


def test_an_unknown_depth_is_taken_for_that_of_a_base_encoder() -> None:
    """And said so."""
    bounds, known = rounding_bounds("bf16", layers=None), rounding_bounds("bf16", layers=12)
    assert (bounds.worst, bounds.mean) == (known.worst, known.mean)
    assert bounds.why == "bf16, as in 12 layers"


def test_in_company_no_text_owes_more_than_four_nines() -> None:
    """A larger batch may be computed by other kernels, also in fp32."""
    assert rounding_bounds("fp32", layers=6).in_company.worst == 0.9999
    assert rounding_bounds("bf16", layers=36).in_company == rounding_bounds("bf16", layers=36)
