"""A share of a run's parts, for several producers at once."""

import hashlib
from dataclasses import dataclass

from producer.errors import InvalidOption


@dataclass(frozen=True, slots=True)
class Shard:
    """Share `number` (from 1) of `count`: every part belongs to exactly one."""

    number: int
    count: int

    def has(self, name: str) -> bool:
        """True if the part of that name is in this share; which one does not depend on the other parts."""
        digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return int.from_bytes(digest, "little") % self.count == self.number - 1


def parse_shard(text: str) -> Shard:
    """The share written as `3/8`. Raises InvalidOption."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InvalidOption(f"--shard must be written as 3/8, the third of eight shares, not {text!r:.40}")
    return Shard(int(number), int(count))
