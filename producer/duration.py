"""Lengths of time as people read them."""

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def spoken(seconds: float) -> str:
    """In the largest unit of which there is at least one: `42 s`, `1.5 min`, `3.0 h`, `2.1 d`."""
    for size_s, unit in _UNITS:
        if seconds >= size_s:
            return f"{seconds / size_s:.1f} {unit}"
    return f"{seconds:.0f} s"
