"""JSON objects out of text: one a line, or one after the other in a stream."""

import json
from collections.abc import Callable, Iterator

from producer.contract import UnreadableText
from producer.errors import FileError

JsonRow = dict[str, object] | UnreadableText
_MAX_VALUE_CHARACTERS = 64 * 1024 * 1024
_SPACE = " \t\r\n"


def objects_of_lines(lines: Iterator[str]) -> Iterator[JsonRow]:
    """The object of each line; blank lines are left out, a line that is none fails alone."""
    decode = json.JSONDecoder().raw_decode
    for number, line in enumerate(lines, start=1):
        try:
            value, end = decode(line)
            if line[end:] != "\n" and line[end:].strip():
                raise ValueError
        except (ValueError, RecursionError):
            try:
                value = json.loads(line)  # there may be spaces before it
            except (ValueError, RecursionError):
                if line.isspace():
                    continue
                yield UnreadableText(f"line {number} is not JSON; put one complete object on each line")
                continue
        yield value if type(value) is dict else _no_object(value, f"line {number}")


def objects_of_stream(read: Callable[[], str], location: str) -> Iterator[JsonRow]:
    """The objects of a list, or objects one after the other, however they are laid out.

    No more than one object and one piece of the file are in memory. What is no object fails alone; raises
    FileError where the text is no JSON, because nobody knows where the next object begins.
    """
    values = _Values(read, location)
    is_list = values.next_character() == "["
    if is_list:
        values.skip_character()
    number = 0
    while (character := values.next_character()) not in ("", "]"):
        if character == "," and number:
            values.skip_character()
            continue
        value = values.next_value(number)
        number += 1
        yield value if isinstance(value, dict) else _no_object(value, f"value {number}")
    if is_list and character != "]":
        raise FileError(f"{location}: ends within the list, after {number} values; check that it is complete")


class _Values:
    """Decodes one value after the other from a text that is read in pieces."""

    def __init__(self, read: Callable[[], str], location: str) -> None:
        self._read, self._location = read, location
        self._decode = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._is_all = "", 0, False

    def next_character(self) -> str:
        """The next character that is no space, "" at the end."""
        while True:
            while self._at < len(self._buffer) and self._buffer[self._at] in _SPACE:
                self._at += 1
            if self._at < len(self._buffer):
                return self._buffer[self._at]
            if self._is_all:
                return ""
            self._more()

    def skip_character(self) -> None:
        """Go past the character that `next_character` gave."""
        self._at += 1

    def next_value(self, number: int) -> object:
        """The value that begins here."""
        while True:
            try:
                value, end = self._decode(self._buffer, self._at)
                # A number may go on in the next piece; whatever ends with a bracket or quote does not.
                if self._is_all or end < len(self._buffer) or self._buffer[end - 1] in '}]"':
                    self._at = end
                    return value
            except (ValueError, RecursionError) as error:
                is_cut = len(self._buffer) - self._at <= _MAX_VALUE_CHARACTERS
                if self._is_all or not is_cut or isinstance(error, RecursionError):
                    raise FileError(
                        f"{self._location}: not JSON in or after value {number + 1}; check that it is "
                        "complete"
                    ) from None
            self._more()

    def _more(self) -> None:
        """Read on, at least as much as is left, lest a long object be decoded in vain too often."""
        left, pieces = len(self._buffer) - self._at, [self._read()]
        while pieces[-1] and sum(map(len, pieces)) < left:
            pieces.append(self._read())
        piece = "".join(pieces)
        self._is_all = not piece
        self._buffer = self._buffer[self._at :] + piece
        self._at = 0


def _no_object(value: object, where: str) -> UnreadableText:
    kind = "null" if value is None else type(value).__name__
    return UnreadableText(f"{where} is a JSON {kind}, not an object; write it as an object with a text")
