"""Which prompt is put before a text: by name, by what the text is, by default, or an error with the names."""

from collections.abc import Mapping

import pytest

from producer.contract import EmbedOptions
from producer.errors import InvalidOption, ModelError
from worker.prompts import Prompt, Prompts, read_prompts, stated_default

E5 = {"query": "query: ", "passage": "passage: "}
STELLA = {"s2p_query": "Instruct: retrieve.\nQuery: ", "s2s_query": "Instruct: similar.\nQuery: "}
JINA = {"retrieval.query": "Represent the query: ", "retrieval.passage": "Represent the document: "}
GEMMA = {"query": "task: search result | query: ", "document": "title: none | text: ", "Clustering": "c: "}


def chosen(texts: Mapping[str, str], *, default: str | None = None, **wish: str) -> Prompt:
    return Prompts(texts=texts, default=default).chosen(EmbedOptions(**wish))  # type: ignore[arg-type]


@pytest.mark.parametrize("texts", [E5, STELLA, JINA, GEMMA], ids=["e5", "stella", "jina", "gemma"])
def test_every_prompt_can_be_asked_for_by_its_name(texts: dict[str, str]) -> None:
    """Whatever it is called."""
    for name, text in texts.items():
        assert chosen(texts, prompt_name=name) == Prompt(name, text)


@pytest.mark.parametrize(
    ("texts", "kind", "expected"),
    [
        (E5, "query", "query"),
        (E5, "passage", "passage"),
        (GEMMA, "passage", "document"),
        (E5 | {"document": ""}, "passage", "passage"),  # sentence-transformers adds it, empty
        (E5 | {"document": "passage: "}, "passage", "document"),
        ({"query": "q: ", "document": ""}, "passage", "document"),
        ({"corpus": "c: "}, "passage", "corpus"),
    ],
)
def test_an_input_type_finds_its_prompt_by_the_usual_names(
    texts: dict[str, str], kind: str, expected: str
) -> None:
    """In the order of sentence-transformers, but an empty one does not hide one with a text."""
    assert chosen(texts, input_type=kind) == Prompt(expected, texts[expected])


@pytest.mark.parametrize("texts", [{"query": "q: "}, {"document": "d: "}, {}, {"query": "", "document": ""}])
@pytest.mark.parametrize("kind", ["query", "passage"])
def test_a_model_without_a_prompt_for_an_input_type_puts_none(texts: dict[str, str], kind: str) -> None:
    """If it has none at all, or the usual names tell that only the other input type has one."""
    name = {"query": "query", "passage": "document"}[kind]
    assert chosen(texts, input_type=kind).text == texts.get(name, "")


@pytest.mark.parametrize(
    ("texts", "wish", "message"),
    [
        (E5, {"prompt_name": "search"}, r"no prompt 'search'; its prompts are query, passage"),
        (E5, {"prompt_name": "Query"}, r"no prompt 'Query'; did you mean 'query'\? its prompts are query, p"),
        ({}, {"prompt_name": "search"}, r"no prompt 'search'; it has none"),
        (
            STELLA,
            {"input_type": "query"},
            "none of its prompts for the input_type query.*s2p_query, s2s_query",
        ),
        (
            JINA,
            {"input_type": "passage"},
            "none of its prompts for the input_type passage.*retrieval.passage",
        ),
        (
            E5 | {"corpus": "c: "},
            {"input_type": "passage"},
            "several prompts for the input_type passage.*corpus",
        ),
        (E5, {}, r"^'input_type' parameter is required for asymmetric models; .*query, passage$"),
        (STELLA, {}, "set prompt_name: its prompts are s2p_query, s2s_query"),
    ],
)
def test_an_unknown_or_ambiguous_wish_is_an_error_with_the_names(
    texts: dict[str, str], wish: dict[str, str], message: str
) -> None:
    """There is never silently no prompt."""
    with pytest.raises(InvalidOption, match=message):
        chosen(texts, **wish)


def test_the_default_is_for_requests_that_ask_for_nothing() -> None:
    """As encode() of sentence-transformers has it, an empty default too; any wish overrides it."""
    texts = {"retrieval": "search: ", "none at all": ""}
    assert chosen(texts, default="retrieval") == Prompt("retrieval", "search: ")
    assert chosen(texts, default="none at all") == Prompt("none at all", "")
    assert chosen(texts, default="retrieval", prompt_name="none at all").text == ""
    assert chosen(texts, default="retrieval", input_type="none") == Prompt(None, "")
    with pytest.raises(InvalidOption, match="none of its prompts"):
        chosen(texts, default="retrieval", input_type="query")


@pytest.mark.parametrize("texts", [{}, {"query": "", "document": ""}])
def test_a_symmetric_model_needs_no_wish(texts: dict[str, str]) -> None:
    """There is nothing to put before its texts."""
    assert chosen(texts) == Prompt(None, "")


def test_name_and_input_type_together_are_refused() -> None:
    """Both choose the prompt; only the worker could know whether they agree."""
    with pytest.raises(InvalidOption, match="give one of them"):
        EmbedOptions(input_type="query", prompt_name="query")


def test_the_manifest_adds_what_the_model_s_files_lack() -> None:
    """Prompts, and names for input types; the files' own texts come first."""
    assert read_prompts({"query": "Q: ", "document": ""}, E5, input_types={}).texts == {
        "passage": "passage: ",
        "query": "Q: ",
        "document": "",
    }
    assert read_prompts({"document": "D: "}, {"passage": "P: "}, input_types={}).texts == {"document": "D: "}
    assert read_prompts({"query": ""}, {"query": "Q: "}, input_types={}).texts == {"query": "Q: "}
    mapped = read_prompts(STELLA, {"passage": ""}, input_types={"query": "s2p_query"})
    assert mapped.chosen(EmbedOptions(input_type="query")).name == "s2p_query"
    assert mapped.chosen(EmbedOptions(input_type="passage")) == Prompt("passage", "")


def test_a_manifest_that_names_a_prompt_there_is_not_is_refused() -> None:
    """At boot, not at the first request."""
    with pytest.raises(ModelError, match=r"input type query to the prompt 's2p_query'.*are query, passage"):
        read_prompts(E5, {}, input_types={"query": "s2p_query"})


def test_a_default_that_is_no_prompt_is_refused() -> None:
    """As in sentence-transformers, which knows query and document, empty, in every model."""
    assert stated_default({"prompts": E5, "default_prompt_name": "query"}) == "query"
    assert stated_default({"prompts": E5, "default_prompt_name": "document"}) is None
    assert stated_default({}) is None
    for wrong in ("search", ["query"]):
        with pytest.raises(ModelError, match="default_prompt_name"):
            stated_default({"prompts": E5, "default_prompt_name": wrong})
