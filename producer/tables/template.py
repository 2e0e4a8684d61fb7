"""A text made of several columns, such as "{title}\\n{body}"."""

import json
import re
import string
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time

from producer.errors import InvalidOption

_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\\\": "\\"}


@dataclass(frozen=True, slots=True)
class Template:
    """`names` are the columns it uses; `parts` alternate between literal text and the number of a name."""

    names: tuple[str, ...]
    parts: tuple[str | int, ...]

    @classmethod
    def parse(cls, template: str) -> "Template":
        """Read `{name}`, `{{`, `}}`; and `\\n`, `\\t`, `\\\\`, as shells leave them. Raises InvalidOption."""
        given = re.sub(r"\\[nt\\]", lambda found: _ESCAPES[found[0]], template)
        names: dict[str, int] = {}
        parts: list[str | int] = []
        try:
            for literal, name, form, conversion in string.Formatter().parse(given):
                parts += [literal] if literal else []
                if name is None:
                    continue
                if not name or form or conversion:
                    raise ValueError(f"{name!r} is no plain name of a column")
                parts.append(names.setdefault(name, len(names)))
        except ValueError as error:
            raise InvalidOption(
                f"template {template!r:.80}: {error}; write columns as {{name}}, and a brace as {{{{ or }}}}"
            ) from None
        if not names:
            raise InvalidOption(f"template {template!r:.80} names no column; write columns as {{name}}")
        return cls(tuple(names), tuple(parts))

    def renderer(self) -> Callable[[Iterable[object]], str | None]:
        """A function from the values of `names` to a text: null is empty, a text of nulls only is None."""
        parts = self.parts

        def render(values: Iterable[object]) -> str | None:
            given = list(values)
            if all(value is None for value in given):
                return None
            return "".join([part if isinstance(part, str) else as_text(given[part]) for part in parts])

        return render


def as_text(value: object) -> str:
    """A value of any column as text: null is empty, bytes are UTF-8, times ISO 8601, the rest JSON."""
    match value:
        case str():
            text = value
        case None:
            text = ""
        case bytes():
            text = value.decode("utf-8", "surrogateescape")
        case datetime() | date() | time():
            text = value.isoformat()
        case bool() | list() | dict():
            text = json.dumps(value, ensure_ascii=False, default=as_text)
        case _:
            text = str(value)
    return text
