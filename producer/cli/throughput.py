"""How fast a run is now, and how long it will take."""

from collections import deque

from producer.bulk import Summary

_WINDOW_S = 30.0


class Throughput:
    """Rates over the last half minute, without the wait for the first reply and what earlier runs did."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int, int]] = deque()  # seconds, texts, tokens of this run
        self.texts_per_s = 0.0
        self.tokens_per_s = 0.0

    def add(self, summary: Summary) -> None:
        """Take the counts of a run at another moment."""
        num_texts = summary.num_texts - summary.earlier.num_texts
        num_tokens = summary.num_tokens - summary.earlier.num_tokens
        self._samples.append((summary.seconds, num_texts, num_tokens))
        while len(self._samples) > 2 and summary.seconds - self._samples[1][0] >= _WINDOW_S:
            self._samples.popleft()
        since_s, texts_then, tokens_then = self._samples[0]
        if (seconds := summary.seconds - since_s) > 0:
            self.texts_per_s = (num_texts - texts_then) / seconds
            self.tokens_per_s = (num_tokens - tokens_then) / seconds
        else:
            self.texts_per_s, self.tokens_per_s = summary.texts_per_s, summary.tokens_per_s

    def left_s(self, summary: Summary) -> float | None:
        """The seconds that the other texts of the input will take; None if that cannot be known."""
        if summary.estimated_texts is None or self.texts_per_s <= 0:
            return None
        return max(0, summary.estimated_texts - summary.num_texts) / self.texts_per_s
