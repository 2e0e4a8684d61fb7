"""Finds out how a text file is encoded."""

import codecs

from producer.errors import InvalidOption

UTF_8 = "utf-8"
_MARKS = (  # UTF-32's little-endian mark begins with that of UTF-16
    (codecs.BOM_UTF8, UTF_8),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_SAMPLE_BYTES = 4096


def sniff_encoding(head: bytes, given: str | None) -> tuple[str, int]:
    """The encoding of a file that begins with `head`, and the size of its byte order mark.

    Without a mark it is UTF-8, unless every other byte is mostly zero, as in UTF-16; never an 8-bit code
    page, which only `given` can tell. Raises InvalidOption if there is no encoding of that name.
    """
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding, len(mark)
    if given is not None:
        try:
            return codecs.lookup(given).name, 0
        except LookupError:
            raise InvalidOption(
                f"there is no encoding {given!r:.40}; known are utf-8, cp1252, utf-16 and many others"
            ) from None
    sample = head[:_SAMPLE_BYTES]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if odd > len(sample) // 5 and even < odd // 8:
        return "utf-16-le", 0
    if even > len(sample) // 5 and odd < even // 8:
        return "utf-16-be", 0
    return UTF_8, 0
