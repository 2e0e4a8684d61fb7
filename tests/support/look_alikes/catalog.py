"""All look-alikes, and the table of the models that they imitate."""

from collections import Counter
from collections.abc import Iterator

from support.look_alikes import (
    bert_like,
    custom_onnx,
    decoders,
    fallbacks,
    heads,
    recent,
    refused,
    refused_options,
    rotary,
    static,
    token_files,
)
from support.look_alikes.layout import Layout, Refused, Served

_GROUPS = (
    bert_like,
    rotary,
    decoders,
    fallbacks,
    static,
    heads,
    recent,
    token_files,
    custom_onnx,
    refused,
    refused_options,
)
LAYOUTS: dict[str, Layout] = {each.name: each for group in _GROUPS for each in group.LAYOUTS}


def model_rows() -> Iterator[list[str]]:
    """A row per real model: name, family, who serves it or why nobody does, peculiarities, look-alike."""
    for layout in sorted(
        LAYOUTS.values(), key=lambda each: (isinstance(each.expected, Refused), each.family)
    ):
        for model in layout.models:
            yield [model, layout.family, _serving(layout.expected), layout.note, f"`{layout.name}`"]


def model_counts() -> str:
    """How many of the real models are served, and by whom."""
    counts = Counter(
        "refused" if isinstance(each.expected, Refused) else str(each.expected.by)
        for each in LAYOUTS.values()
        for _ in each.models
    )
    served = ", ".join(f"{count} by {who}" for who, count in counts.most_common() if who != "refused")
    return (
        f"{counts.total() - counts['refused']} models are served ({served}), {counts['refused']} are refused."
    )


def _serving(expected: Served | Refused) -> str:
    if isinstance(expected, Refused):
        return f"refused: {expected.because}"
    return f"{expected.by}{', after `worker convert`' if expected.convert else ''}"


def of(kind: type[Served] | type[Refused]) -> list[Layout]:
    """The look-alikes that must be served, or those that must be refused."""
    return [layout for layout in LAYOUTS.values() if isinstance(layout.expected, kind)]
