"""How the benchmark finds the layers to keep; measured by a formula here."""

import pytest

from benchmarks.quality.keep_16bit import PARTS, Trial, trials

#: What the worst cosine loses by a layer in fp8.
LOSS = {"layers.0.qkv": 0.004, "layers.1.down": 0.002, "layers.1.up": 0.001}


def measure(kept: tuple[str, ...]) -> Trial:
    """Losses of layers add up."""
    loss = sum(amount for name, amount in LOSS.items() if name not in kept)
    return Trial(kept=kept, worst=1 - loss, mean=1 - loss / 2)


@pytest.mark.parametrize(
    ("min_cosine", "kept"),
    [
        (0.99, ()),
        (0.9969, ("layers.0.qkv",)),
        (0.9989, ("layers.0.qkv", "layers.1.down")),
        (0.9999, ("layers.0.qkv", "layers.1.down", "layers.1.up")),
    ],
)
def test_the_last_trial_is_the_least_set_that_reaches_the_bound(
    min_cosine: float, kept: tuple[str, ...]
) -> None:
    """Layers join in the order of what each brings alone, and no more of them than needed."""
    last = list(trials(2, measure, min_cosine))[-1]
    assert last.kept == kept
    assert last.worst >= min_cosine


def test_a_bound_out_of_reach_ends_with_all_layers_kept() -> None:
    """Then the last trial is still below it."""
    last = list(trials(2, measure, 1.5))[-1]
    assert len(last.kept) == 2 * len(PARTS)
    assert last.worst < 1.5
