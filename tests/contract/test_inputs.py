"""What may be given as texts and as options, and what is said of the rest."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from producer.contract import EmbedOptions, build_request, encode_request, options_of, texts_of
from producer.contract.request import MAX_TEXTS_PER_JOB, InputType, Truncate
from producer.errors import InvalidOption, RequestTooLarge

TEXTS = ["one", "two", "déjà vu"]


class Column:
    """A column as pandas and Polars have it: iterable, with a length, and a list of it."""

    def __init__(self, values: list[object]) -> None:
        self.values = values

    def __iter__(self) -> Iterator[object]:
        return iter(self.values)

    def to_list(self) -> list[object]:
        return self.values


class Frame:
    """A table as pandas and Polars have it, whose iteration gives the names of its columns."""

    columns = ("id", "text")

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)


@pytest.mark.parametrize(
    "given",
    [
        tuple(TEXTS),
        (text for text in TEXTS),
        map(str, TEXTS),
        {n: text for n, text in enumerate(TEXTS)}.values(),
        np.array(TEXTS),
        np.array(TEXTS, dtype=object),
        pa.array(TEXTS),
        pa.chunked_array([TEXTS[:1], TEXTS[1:]]),
        pa.array(TEXTS).dictionary_encode(),
        Column(list(TEXTS)),
    ],
    ids=lambda given: type(given).__name__,
)
def test_texts_come_as_any_column(given: object) -> None:
    """The request, and so the job's id, is that of the same texts in a list."""
    plain = build_request("m", TEXTS, EmbedOptions())
    request = build_request("m", texts_of(given), EmbedOptions())  # type: ignore[arg-type]
    assert encode_request(request) == encode_request(plain)
    assert all(type(text) is str for text in request.texts)


def test_a_missing_text_of_a_column_fails_alone() -> None:
    """A null of PyArrow, a NaN of pandas."""
    for given in (pa.array(["a", None]), np.array(["a", np.nan], dtype=object)):
        request = build_request("m", texts_of(given), EmbedOptions())
        assert [(one.index, one.code) for one in request.refused] == [(1, "not_a_string")]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("one", "wrap it in a list"),
        (b"one", "wrap it in a list"),
        ({"id": "text"}, r"not of type dict; give list\(texts.values\(\)\)"),
        ({"one"}, "texts of type set have no order"),
        ({"one": 1}.keys(), "texts of type dict_keys have no order"),
        (pa.table({"text": TEXTS}), "one column, not of type Table; choose one"),
        (Frame(), "one column, not of type Frame; choose one"),
        (np.array([["a"], ["b"]]), "one column; this ndarray has several dimensions"),
        (np.array("one"), "not a single one of type ndarray"),
        (None, "texts must be a sequence of strings, not of type NoneType"),
        (7, "texts must be a sequence of strings, not of type int"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_column_is_refused(given: object, told: str) -> None:
    """With what to give instead: the names of a table's columns are not its texts."""
    with pytest.raises(InvalidOption, match=told):
        texts_of(given)  # type: ignore[arg-type]


def test_an_endless_generator_has_too_many_texts() -> None:
    """It is not read to an end that it does not have."""

    def endless() -> Iterator[str]:
        while True:
            yield "text"

    with pytest.raises(RequestTooLarge, match=f"the limit is {MAX_TEXTS_PER_JOB}"):
        build_request("m", texts_of(endless()), EmbedOptions())


def test_a_generators_own_error_passes() -> None:
    """It is the caller's, and is not taken for a wrong kind of texts."""

    def broken() -> Iterator[str]:
        yield "a"
        raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        texts_of(broken())


def test_options_come_as_a_dict() -> None:
    """Of some of them, checked alike."""
    assert options_of(None) == EmbedOptions()
    assert options_of({"truncate": "END", "input_type": "query"}) == EmbedOptions(
        truncate=Truncate.END, input_type=InputType.QUERY
    )
    given = EmbedOptions(dimensions=7)
    assert options_of(given) is given


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"truncat": "END"}, "no option 'truncat'; the options are input_type, prompt_name, truncate"),
        ({"truncate": "yes"}, "truncate must be one of"),
        ("END", "must be EmbedOptions or a dict of them, not str"),
    ],
)
def test_options_that_are_none_are_refused(given: object, told: str) -> None:
    """With the names that there are."""
    with pytest.raises(InvalidOption, match=told):
        options_of(given)  # type: ignore[arg-type]
