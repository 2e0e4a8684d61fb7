"""All look-alikes, and the table of the models that they imitate."""

from support.look_alikes import (
    bert_like,
    custom_onnx,
    decoders,
    fallbacks,
    heads,
    refused,
    rotary,
    static,
    token_files,
)
from support.look_alikes.layout import Layout, Refused, Served

_GROUPS = (bert_like, rotary, decoders, fallbacks, static, heads, token_files, custom_onnx, refused)
LAYOUTS: dict[str, Layout] = {each.name: each for group in _GROUPS for each in group.LAYOUTS}


def of(kind: type[Served] | type[Refused]) -> list[Layout]:
    """The look-alikes that must be served, or those that must be refused."""
    return [layout for layout in LAYOUTS.values() if isinstance(layout.expected, kind)]
