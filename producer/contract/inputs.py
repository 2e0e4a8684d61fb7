"""What callers may give as texts: any column, or a generator; and as options: a dict too."""

from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import islice
from typing import Any

from producer.contract.request import MAX_TEXTS_PER_JOB, EmbedOptions
from producer.errors import InvalidOption

# The column as a list of Python's own objects: of PyArrow, of pandas and Polars, of NumPy.
_TO_LIST = ("to_pylist", "to_list", "tolist")


def texts_of(given: Iterable[object]) -> Sequence[object]:
    """The texts in order: of a list, a generator, a NumPy array, or a PyArrow, pandas or Polars column.

    Reads no more of a generator than shows that it has too many texts. Raises InvalidOption for what has no
    order or is no single column, and says what to give instead.
    """
    if type(given) is list or type(given) is tuple:
        return given
    kind = type(given).__name__
    if isinstance(given, str | bytes):
        raise InvalidOption("texts must be a sequence of strings, not one string; wrap it in a list")
    if isinstance(given, Mapping):
        raise InvalidOption(
            f"texts must be a sequence of strings, not of type {kind}; give list(texts.values())"
        )
    if isinstance(given, Set):
        raise InvalidOption(f"texts of type {kind} have no order for their vectors; give a sorted list")
    if hasattr(given, "columns"):
        raise InvalidOption(f"texts must be one column, not of type {kind}; choose one, as in table['text']")
    for name in _TO_LIST:
        if hasattr(given, name):
            return _column(getattr(given, name)(), kind)
    try:
        return list(islice(given, MAX_TEXTS_PER_JOB + 1))
    except TypeError as error:
        if isinstance(given, Iterable):  # raised by a generator of the caller's
            raise
        raise InvalidOption(f"texts must be a sequence of strings, not of type {kind}") from error


def options_of(given: EmbedOptions | Mapping[str, Any] | None) -> EmbedOptions:
    """The options, of which a mapping has some by their names. Raises InvalidOption."""
    if isinstance(given, EmbedOptions):
        return given
    if given is None:
        return EmbedOptions()
    known = EmbedOptions.__slots__
    if not isinstance(given, Mapping):
        raise InvalidOption(f"options must be EmbedOptions or a dict of them, not {type(given).__name__}")
    for name in given:
        if name not in known:
            raise InvalidOption(f"there is no option {name!r:.60}; the options are {', '.join(known)}")
    return EmbedOptions(**given)


def _column(listed: object, kind: str) -> Sequence[object]:
    """The texts of a column; what has no dimension, or several, is none."""
    if not isinstance(listed, list):
        raise InvalidOption(f"texts must be a sequence of strings, not a single one of type {kind}")
    if listed and isinstance(listed[0], list):
        raise InvalidOption(f"texts must be one column; this {kind} has several dimensions, so flatten it")
    return listed
