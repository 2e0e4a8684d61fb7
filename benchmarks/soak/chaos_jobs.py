"""The jobs of the chaos run: what the n-th asks, what may become of it, and what its answer must be."""

from dataclasses import dataclass

import numpy as np

from benchmarks.soak.mortal_worker import KILLER
from producer import EmbedOptions
from producer.contract import Reply, Truncate
from worker.backends.fake import fake_vectors
from worker.startup.boot import Booted

MAX_TEXTS = 20
POOL = [
    f"text {n} of the pool " * (1 + n % 9) for n in range(1000)
]  # so that they are embedded here only once
TOO_LONG = "word " * 600
PLAIN = EmbedOptions()
REFUSED = EmbedOptions(dimensions=4096)  # more than the model has


@dataclass(frozen=True, slots=True)
class Job:
    """The n-th job: what it asks and what becomes of it follow from n."""

    n: int

    @property
    def name(self) -> str:
        return f"job-{self.n}"

    @property
    def places(self) -> list[int]:
        """Of its texts in the pool."""
        return [(37 * self.n + i) % len(POOL) for i in range(1 + 7 * self.n % MAX_TEXTS)]

    @property
    def bad(self) -> list[str]:
        """Texts that fail beside the others."""
        return [TOO_LONG, "lone \ud800 surrogate"] if self.n % 20 == 3 else []

    @property
    def killers(self) -> list[str]:
        """Texts that kill the worker that embeds them."""
        return [f"{KILLER} {self.n}"] if self.n % 3000 == 99 else []

    @property
    def letter(self) -> str:
        """The dead letter that holds the killers."""
        return f"{self.name}-killers"

    @property
    def texts(self) -> list[str]:
        return [POOL[place] for place in self.places] + self.bad + self.killers

    @property
    def codes(self) -> dict[int, str]:
        """Why which text must fail, by its index; all others must not."""
        codes = ["text_too_long", "invalid_unicode"] if self.bad else ["killed_worker"] * len(self.killers)
        return dict(enumerate(codes, len(self.places)))

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
    def outcomes(self) -> set[str]:
        embedded = {"embedded" if self.options is PLAIN else "invalid_option"}
        return embedded | {"cancelled"} if self.cancelled else embedded

    @property
    def consumed(self) -> bool:
        return self.n % 2 == 0


class Expected:
    """What replies must be."""

    def __init__(self, booted: Booted) -> None:
        tokens = booted.tokenizer.encode(POOL, Truncate.END).tokens
        self._vectors = fake_vectors(tokens, booted.model.dim)

    def check(self, job: Job, reply: Reply) -> None:
        """AssertionError if a vector is wrong, or a text failed that should not, or the other way round."""
        codes = {failure.index: failure.code for failure in reply.failures}
        assert codes == job.codes, (job, codes)
        expected = self._vectors[job.places]
        np.testing.assert_allclose(reply.vectors[: len(expected)].astype(np.float32), expected, atol=1e-6)
        assert len(reply.vectors) == len(job.texts), job
