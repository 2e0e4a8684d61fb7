"""Numbers as people read them, and how a command ends on an error."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import QueueUnavailable
from producer.terminal import escaped, exit_on_error, format_bytes, format_duration, format_number


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59, "59 s"), (90, "1.5 min"), (3600, "1.0 h"), (86_400 * 2.1, "2.1 d")],
)
def test_durations_have_one_unit(seconds: float, expected: str) -> None:
    """The largest unit of which there is at least one."""
    assert format_duration(seconds) == expected


@pytest.mark.parametrize(
    ("num_bytes", "expected"),
    [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (79 << 30, "79.0 GiB")],
)
def test_sizes_have_one_unit(num_bytes: int, expected: str) -> None:
    """The largest binary unit of which there is at least one."""
    assert format_bytes(num_bytes) == expected


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (0, "0"),
        (7, "7"),
        (0.25, "0.2"),
        (9.96, "10"),
        (999, "999"),
        (999.9, "1.00k"),
        (12_345, "12.3k"),
        (99_960, "100k"),
        (999_499, "999k"),
        (1.5e6, "1.50M"),
        (2.5e9, "2.50G"),
    ],
)
def test_numbers_are_short(number: float, expected: str) -> None:
    """Three digits and a unit."""
    assert format_number(number) == expected


@given(st.floats(0, 9.99e11))
def test_no_number_breaks_a_column(number: float) -> None:
    """Five characters at most."""
    assert len(format_number(number)) <= 5


@given(st.text())
def test_what_is_shown_is_one_line_that_prints(text: str) -> None:
    """Whatever it is; what printed before is unchanged."""
    assert escaped(text).isprintable()
    assert escaped(text) == text or not text.isprintable()
    assert len(escaped(text, max_chars=9).replace("…", "")) <= 9 * len(r"\U0010ffff")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("é 漢字 👍", "é 漢字 👍"),
        ("\x1b[2J\x9b1m", r"\x1b[2J\x9b1m"),
        ("a\nb\t\0", r"a\nb\t\x00"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
    ],
)
def test_what_a_terminal_acts_on_is_escaped(text: str, shown: str) -> None:
    """As Python writes it; letters of every script stay as they are."""
    assert escaped(text) == shown


def test_an_error_ends_with_what_others_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    """Our own line breaks stay; nothing in it acts on the terminal."""
    with pytest.raises(SystemExit), exit_on_error(lambda _: 7):
        raise QueueUnavailable("Redis said \x1b]0;title\x07\r\nour second line")
    assert capsys.readouterr().err == (
        "error [queue_unavailable]: Redis said \\x1b]0;title\\x07\\r\nour second line\n"
    )


def test_an_error_ends_the_process(capsys: pytest.CaptureFixture[str]) -> None:
    """One line with the code, the exit code asked for; other exceptions pass."""
    with pytest.raises(SystemExit) as caught, exit_on_error(lambda _: 7):
        raise QueueUnavailable("no Redis at localhost:1")
    assert caught.value.code == 7
    assert capsys.readouterr().err == "error [queue_unavailable]: no Redis at localhost:1\n"
    with pytest.raises(ZeroDivisionError), exit_on_error(lambda _: 7):
        raise ZeroDivisionError
