"""How fast the device computes: how long a batch should take, and how large one may be to be done in time."""

_LEARN = 0.1  # weight of the newest batch
# Batches of fewer cost up to 5 % more processor time for each token; of this many, nothing.
LEAST_TOKENS_PER_CPU = 512


class Pace:
    """Begins with a measured speed and learns from full batches; used by the runner's thread alone.

    Costs are in tokens, padding included. Batches are not bounded if `max_batch_s` is None, and never to less
    than `least_tokens`.
    """

    def __init__(
        self, tokens_per_s: float, *, max_batch_s: float | None = None, least_tokens: int = 1
    ) -> None:
        self._s_per_token = 1 / tokens_per_s
        self._max_batch_s = max_batch_s
        self._least_tokens = least_tokens

    def expected_s(self, cost_tokens: int) -> float:
        """How long a batch of this cost should take."""
        return cost_tokens * self._s_per_token

    def bounded(self, max_tokens: int) -> int:
        """The largest cost up to `max_tokens` that is done in time."""
        if self._max_batch_s is None:
            return max_tokens
        in_time = int(self._max_batch_s / self._s_per_token)
        return min(max_tokens, max(self._least_tokens, in_time))

    def learn(self, cost_tokens: int, busy_s: float, *, budget_tokens: int) -> None:
        """Take a computed batch into account, unless it is so small that its fixed cost misleads."""
        if 2 * cost_tokens >= budget_tokens:
            self._s_per_token += _LEARN * (busy_s / cost_tokens - self._s_per_token)
