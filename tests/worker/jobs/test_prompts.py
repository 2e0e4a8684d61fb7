"""The choice of the prompt before a text."""

import pytest

from producer.contract import InputType
from producer.errors import InvalidOption
from worker.jobs.prompts import Prompts, read_prompts


def test_the_model_s_own_prompts_come_first() -> None:
    """Its manifest supplies what its files lack; other prompts in its files are not input types."""
    prompts = read_prompts(
        {"query": "Q: ", "document": "", "clustering": "C: "}, {"query": "x", "passage": "P: "}
    )
    assert prompts == Prompts(query="Q: ", passage="P: ")
    assert read_prompts({"document": "D: "}, {}) == Prompts(query="", passage="D: ")
    assert read_prompts({}, {}) == Prompts()


def test_a_missing_input_type_is_an_error_if_it_matters() -> None:
    """In NIM's words; a symmetric model needs none, and `none` may be given."""
    asymmetric = Prompts(query="query: ", passage="passage: ")
    with pytest.raises(InvalidOption, match="'input_type' parameter is required for asymmetric models"):
        asymmetric.for_input(None)
    assert asymmetric.for_input(InputType.QUERY) == "query: "
    assert asymmetric.for_input(InputType.PASSAGE) == "passage: "
    assert asymmetric.for_input(InputType.NONE) == ""
    assert [Prompts().for_input(kind) for kind in (None, *InputType)] == [""] * 4
