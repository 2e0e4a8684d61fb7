"""The mix of text lengths that profiles are measured with."""

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from producer.errors import SettingsError
from worker.settings import Settings

_NUM_DRAWN = 4_096
_SIGMA = 0.6  # of the logarithm; as in benchmarks/support/texts.py


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LengthMix:
    """A name that identifies the mix, and lengths in tokens, int32 (n,), each at least 1."""

    name: str
    lengths: npt.NDArray[np.int32]


def length_mix(settings: Settings) -> LengthMix:
    """The lengths in the settings' file, else log-normal lengths with the settings' mean.

    Raises SettingsError for a file that is not a list of lengths in tokens, one per line.
    """
    if settings.lengths is None:
        mean = settings.mean_tokens
        drawn = np.random.default_rng(0).lognormal(np.log(mean) - _SIGMA**2 / 2, _SIGMA, _NUM_DRAWN)
        lengths = np.maximum(1, np.rint(drawn)).astype(np.int32)
        return LengthMix(name=f"log-normal mean {mean}", lengths=lengths)
    try:
        lengths = np.array([int(line) for line in settings.lengths.read_text().split()], dtype=np.int32)
    except (OSError, ValueError, OverflowError) as error:
        raise SettingsError(f"{settings.lengths} is not a file of lengths in tokens: {error}") from error
    if not len(lengths) or lengths.min() < 1:
        raise SettingsError(f"{settings.lengths} must hold lengths of at least 1 token, one per line")
    digest = hashlib.sha256(np.sort(lengths).tobytes()).hexdigest()[:16]
    return LengthMix(name=f"{len(lengths)} lengths {digest}", lengths=lengths)
