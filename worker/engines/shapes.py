"""The batch shapes of an engine: a ladder of padded lengths, with numbers of texts for each."""

from dataclasses import dataclass
from itertools import chain

#: Lengths to pad to: few enough to keep builds short, close enough that about a sixth is padding.
_LADDER = tuple(chain((32,), *((2**power, 3 * 2 ** (power - 1)) for power in range(6, 17))))
_NUM_HALVINGS = 4


@dataclass(frozen=True, slots=True)
class Bucket:
    """A batch of exactly `num_texts` texts, each padded to `num_tokens`."""

    num_texts: int
    num_tokens: int

    @property
    def num_slots(self) -> int:
        """Number of tokens in the batch, padding included."""
        return self.num_texts * self.num_tokens


@dataclass(frozen=True, slots=True)
class Shape:
    """One TensorRT optimization profile: 1 to `max_texts` texts, padded to `num_tokens`."""

    num_tokens: int
    max_texts: int

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The batch sizes that are captured, smallest first: a full batch, half, a quarter and so on."""
        counts = {max(1, self.max_texts >> halving) for halving in range(_NUM_HALVINGS + 1)}
        return tuple(Bucket(count, self.num_tokens) for count in sorted(counts))


def shapes_for(max_text_tokens: int, max_batch_tokens: int) -> tuple[Shape, ...]:
    """The shapes for texts of up to `max_text_tokens`, shortest first.

    A full batch of each has at most `max_batch_tokens` slots, or contains a single text.
    """
    lengths = [length for length in _LADDER if length < max_text_tokens]
    return tuple(Shape(length, max(1, max_batch_tokens // length)) for length in (*lengths, max_text_tokens))
