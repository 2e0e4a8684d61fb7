"""The jobs of the chaos test: the request of the n-th job, its possible outcomes, and the expected result."""

from dataclasses import dataclass

import numpy as np

from benchmarks.soak.mortal_worker import POISON
from producer import EmbedOptions
from producer.contract import Reply, Truncate
from worker.backends.fake import fake_vectors
from worker.startup.boot import Booted

MAX_TEXTS = 20
POOL = [
    f"text {n} of the pool " * (1 + n % 9) for n in range(1000)
]  # a pool, so that the expected vectors are computed only once
TOO_LONG = "word " * 600
PLAIN = EmbedOptions()
REFUSED = EmbedOptions(dimensions=4096)  # more than the model has


@dataclass(frozen=True, slots=True)
class Job:
    """The n-th job; n determines its request and its outcome."""

    n: int

    @property
    def name(self) -> str:
        return f"job-{self.n}"

    @property
    def pool_indices(self) -> list[int]:
        """The indices in the pool of its texts."""
        return [(37 * self.n + i) % len(POOL) for i in range(1 + 7 * self.n % MAX_TEXTS)]

    @property
    def bad(self) -> list[str]:
        """Texts that fail on their own."""
        return [TOO_LONG, "lone \ud800 surrogate"] if self.n % 20 == 3 else []

    @property
    def poison_texts(self) -> list[str]:
        """Texts that kill the worker that embeds them."""
        return [f"{POISON} {self.n}"] if self.n % 3000 == 99 else []

    @property
    def dead_letter(self) -> str:
        """The name of the dead letter that contains the poison texts."""
        return f"{self.name}-killers"

    @property
    def texts(self) -> list[str]:
        return [POOL[index] for index in self.pool_indices] + self.bad + self.poison_texts

    @property
    def codes(self) -> dict[int, str]:
        """The error codes of the texts that must fail, by index; all others must succeed."""
        codes = (
            ["text_too_long", "invalid_unicode"] if self.bad else ["killed_worker"] * len(self.poison_texts)
        )
        return dict(enumerate(codes, len(self.pool_indices)))

    @property
    def options(self) -> EmbedOptions:
        return REFUSED if self.n % 50 == 7 else PLAIN

    @property
    def priority(self) -> str:
        return {5: "high", 15: "low"}.get(self.n % 40, "normal")

    @property
    def cancelled(self) -> bool:
        return self.n % 30 == 11

    @property
    def joined(self) -> bool:
        """Two clients enqueue it at once, and both read the one result."""
        return self.n % 25 == 13

    @property
    def outcomes(self) -> set[str]:
        embedded = {"embedded" if self.options is PLAIN else "invalid_option"}
        return embedded | {"cancelled"} if self.cancelled else embedded

    @property
    def consumed(self) -> bool:
        return self.n % 2 == 0 and not self.joined


class Expected:
    """The expected replies."""

    def __init__(self, booted: Booted) -> None:
        tokens = booted.tokenizer.encode(POOL, Truncate.END).tokens
        self._vectors = fake_vectors(tokens, booted.model.dim)

    def check(self, job: Job, reply: Reply) -> None:
        """AssertionError if a vector is wrong, or if the wrong texts failed."""
        codes = {failure.index: failure.code for failure in reply.failures}
        assert codes == job.codes, (job, codes)
        expected = self._vectors[job.pool_indices]
        np.testing.assert_allclose(reply.vectors[: len(expected)].astype(np.float32), expected, atol=1e-6)
        assert len(reply.vectors) == len(job.texts), job
