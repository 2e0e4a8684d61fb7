"""Every distinct text once, and how to get back to all of them."""

from hypothesis import given
from hypothesis import strategies as st

from worker.jobs.dedup import distinct


@given(texts=st.lists(st.text("ab", max_size=3), max_size=30))
def test_every_text_is_found_again(texts: list[str]) -> None:
    """In the order of first appearance; without repeats there is no inverse."""
    found = distinct(texts)
    assert found.texts == list(dict.fromkeys(texts))
    assert found.position_of == {text: position for position, text in enumerate(found.texts)}
    if len(set(texts)) == len(texts):
        assert found.inverse is None
    else:
        assert found.inverse is not None
        assert [found.texts[position] for position in found.inverse] == texts
