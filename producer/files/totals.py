"""Counts of what was answered."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from producer.contract import Reply


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """`num_texts` counts all rows answered, failed ones included; `failed` counts those by code."""

    num_texts: int = 0
    num_tokens: int = 0
    num_truncated: int = 0
    failed: Mapping[str, int] = field(default_factory=dict)

    def plus(self, reply: Reply) -> "Totals":
        """These totals plus a reply's."""
        failed = Counter(self.failed)
        failed.update(failure.code for failure in reply.failures)
        return Totals(
            num_texts=self.num_texts + len(reply.vectors),
            num_tokens=self.num_tokens + int(reply.token_counts.sum()),
            num_truncated=self.num_truncated + len(reply.truncated),
            failed=dict(failed),
        )

    def and_these(self, others: "Totals") -> "Totals":
        """The sum of both."""
        return Totals(
            num_texts=self.num_texts + others.num_texts,
            num_tokens=self.num_tokens + others.num_tokens,
            num_truncated=self.num_truncated + others.num_truncated,
            failed=dict(Counter(self.failed) + Counter(others.failed)),
        )
