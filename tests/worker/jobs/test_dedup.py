"""Each different text once, and the way back."""

from hypothesis import given
from hypothesis import strategies as st

from worker.jobs.dedup import distinct


@given(texts=st.lists(st.text("ab", max_size=3), max_size=30))
def test_every_text_is_found_again(texts: list[str]) -> None:
    """In the order of first appearance; without repeats there is nothing to find again."""
    found = distinct(texts)
    assert found.texts == list(dict.fromkeys(texts))
    assert found.places == {text: place for place, text in enumerate(found.texts)}
    if len(set(texts)) == len(texts):
        assert found.sources is None
    else:
        assert found.sources is not None
        assert [found.texts[place] for place in found.sources] == texts
