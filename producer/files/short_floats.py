"""Floats as few digits as read back to the same bits."""

from typing import Any

import numpy as np
import numpy.typing as npt

# Decimal digits that a type always keeps, and those that always suffice to read a value back.
_DIGITS = {np.dtype(np.float16): (3, 5), np.dtype(np.float32): (6, 9)}


def short_floats(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """For each value the float64 that is a short decimal and rounds to it; any shape, float16 or float32.

    Python writes a float64 with the digits it needs; those of a float32 made a float64 are up to 17, of what
    comes from here mostly 8. Each is checked: one that would not read back to the same bits stays as it is.
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
    """Each to its own number of decimal places, which is negative before the point."""
    # A power of ten up to 22 is exact, and so the quotient is the float64 nearest to the decimal.
    scale = 10.0 ** np.abs(places)
    after = np.rint(values * scale) / scale
    return np.where(places >= 0, after, np.rint(values / scale) * scale)
