"""Shortens floats to the fewest digits that read back to the same bits."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Decimal digits that a type always keeps, and those that always suffice to restore a value.
_DIGITS = {np.dtype(np.float16): (3, 5), np.dtype(np.float32): (6, 9)}


def short_floats(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """For each value a float64 with few decimal digits that rounds to it; any shape, float16 or float32.

    Python prints a float64 with the digits it needs: up to 17 for a converted float32, mostly 8 for these.
    Each is checked: a value that would not read back to the same bits stays as it is.
    """
    short = values.astype(np.float64)
    fewest, most = _DIGITS[values.dtype.newbyteorder("=")]
    with np.errstate(all="ignore"):
        exponents = np.floor(np.log10(np.abs(short)))
        where = np.nonzero(np.isfinite(exponents))  # zero, infinity and NaN stay
        for digits in range(fewest, most + 1):
            candidates = _rounded(short[where], digits - 1 - exponents[where])
            fits = candidates.astype(values.dtype) == values[where]
            short[tuple(index[fits] for index in where)] = candidates[fits]
            where = tuple(index[~fits] for index in where)
    return short


def _rounded(values: npt.NDArray[np.float64], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Round each value to its own number of decimal places, negative before the point."""
    # Powers of ten up to 22 are exact, so the quotient is the float64 nearest to the decimal.
    scale = 10.0 ** np.abs(places)
    after = np.rint(values * scale) / scale
    return np.where(places >= 0, after, np.rint(values / scale) * scale)
