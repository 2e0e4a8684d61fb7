"""How a CSV or text file is written down: its delimiter, quote and encoding."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What the user says about a text file; None is found out from its beginning."""

    delimiter: str | None = None
    quote: str | None = None
    encoding: str | None = None
