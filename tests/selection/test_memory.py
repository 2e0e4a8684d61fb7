"""The memory estimate: what it grows with, what it leaves open, and that a fitting budget fits."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from selection import Manifest, ModelCard, Profile, manifest_for
from selection.machine.facts import Cpu, Facts, Gpu
from selection.memory import GIB, available_bytes, budget_tokens, fitting_tokens, needed_bytes

LARGE = manifest_for("llama-nemotron-embed-1b-v2")


def named(manifest: Manifest, name: str) -> Profile:
    return next(profile for profile in manifest.profiles if profile.name == name)


def need(name: str, tokens: int = 16_384) -> int:
    needed = needed_bytes(named(LARGE, name), LARGE.model, tokens=tokens)
    assert needed is not None
    return needed


def test_weights_follow_the_precision() -> None:
    """1.24 billion parameters need about 2.3 GiB in 16 bit, twice that in fp32, and less in fp8."""
    sixteen, eight, full = need("sm90-fp16-torch", 1), need("sm90-fp8-torch", 1), need("cuda-fp32-torch", 1)
    assert 2.2 * GIB < sixteen - 1.5 * GIB < 2.4 * GIB
    tables = 128_256 * 2048
    assert abs(eight - sixteen + 1_235_814_400 - tables) < 1_000_000  # the embedding table stays in 16 bit
    assert abs((full - sixteen) - 2 * 1_235_814_400) < 1_000_000


@given(st.integers(1, 10**6), st.integers(1, 10**6))
def test_more_tokens_need_more(one: int, two: int) -> None:
    """The need grows with the tokens of a batch."""
    less, more = sorted((one, two))
    assert need("cuda-fp16-onnx", less) <= need("cuda-fp16-onnx", more)


@given(st.integers(0, 200 * GIB))
def test_fitting_budget_fits(available: int) -> None:
    """The budget offered fits in what is free, the next step of 256 does not; none is offered in vain."""
    profile = named(LARGE, "cuda-fp16-torch")
    tokens = fitting_tokens(profile, LARGE.model, available_bytes=available)
    if tokens is None:
        assert need("cuda-fp16-torch", 8192) > available
    else:
        assert need("cuda-fp16-torch", tokens) <= available < need("cuda-fp16-torch", tokens + 256)
        assert tokens >= 8192


def test_unknown_sizes_are_not_guessed() -> None:
    """Without a model's sizes there is no estimate, and no budget to offer."""
    card, profile = ModelCard(name="org/model"), named(LARGE, "cuda-fp16-torch")
    assert needed_bytes(profile, card, tokens=100) is None
    assert fitting_tokens(profile, card, available_bytes=GIB) is None


def test_budget_is_the_users_then_the_profiles_and_holds_one_text() -> None:
    """The user's limit goes before the profile's, and no budget is below one text of full length."""
    profile = named(LARGE, "cuda-fp16-torch")
    assert budget_tokens(profile, LARGE.model, limit=20_000) == 20_000
    assert budget_tokens(replace(profile, max_batch_tokens=30_000), LARGE.model) == 30_000
    assert budget_tokens(profile, LARGE.model, limit=100) == 8192


def test_memory_of_the_device() -> None:
    """A GPU's free memory counts; one that has none of its own takes the host's."""
    facts = Facts(cpu=Cpu(architecture="aarch64"), memory_available_bytes=7)
    assert available_bytes(facts, gpu=Gpu(index=0, name="x", memory_total_bytes=9, memory_free_bytes=3)) == 3
    assert available_bytes(facts, gpu=Gpu(index=0, name="x", memory_total_bytes=9)) == 9
    assert available_bytes(facts, gpu=Gpu(index=0, name="NVIDIA GB10")) == 7
    assert available_bytes(facts, gpu=None) == 7
