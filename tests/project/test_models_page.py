"""The table of models tells what the look-alikes prove."""

from collections import Counter

from support.look_alikes.catalog import LAYOUTS, of
from support.look_alikes.layout import Served


def test_no_model_stands_twice_in_the_table() -> None:
    """Each name has one look-alike."""
    counts = Counter(model for layout in LAYOUTS.values() for model in layout.models)
    assert [model for model, count in counts.items() if count > 1] == []


def test_most_named_models_are_served() -> None:
    """At least 75 of about a hundred."""
    assert sum(len(layout.models) for layout in of(Served)) >= 75
    assert len(LAYOUTS) >= 110
