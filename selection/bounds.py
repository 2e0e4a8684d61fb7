"""How close to fp32 a profile's vectors must be: by its number format and the network's depth. Pure.

Every rounding adds an error of its own, so `1 - cosine` grows with the number of roundings. In 16 bit the sum
that runs through all layers is rounded at each of them, and the loss grows with the depth. fp8 and int8 round
only what enters the matrix products, in branches that are a smaller part of a deeper network's sum: there it
grows with the depth's square root. docs/lab/bounds.md has the measurements that the factors come from.
"""

import math
from dataclasses import dataclass, replace

from selection.manifests.manifest import Profile

#: No format's bound of a text in a batch to itself alone is stricter.
_COMPANY = 0.9999
#: Assumed for a network whose files do not say how deep it is.
_LAYERS_ELSE = 12
#: The worst of the golden texts loses this many times the mean.
_WORST_TO_MEAN = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineBounds:
    """Minimum cosines over the golden texts, the worst and the mean; `why` says where they come from."""

    worst: float
    mean: float = -1.0
    why: str = "stated by the manifest"

    @property
    def in_company(self) -> "CosineBounds":
        """The bounds of a text in a batch to itself alone, which in fp32 may be other kernels' work."""
        return replace(self, worst=min(self.worst, _COMPANY), mean=min(self.mean, _COMPANY))

    def shortfall(self, *, worst: float, mean: float) -> str | None:
        """Which of these cosines is too low, in words that follow `cosine to ...`; None if both suffice."""
        if not worst >= self.worst:
            return f"worst cosine is {worst:.6f}, the minimum is {self.worst:.6g} ({self.why})"
        if not mean >= self.mean:
            return f"mean cosine is {mean:.6f}, the minimum is {self.mean:.6g} ({self.why})"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Law:
    """The largest mean loss, `1 - cosine`: the roundings', and `constant` for what no depth changes."""

    constant: float
    factor: float
    power: float
    worst_to_mean: float

    def loss(self, layers: int) -> float:
        return self.constant + self.factor * math.pow(layers, self.power)


def _sixteen_bit(mantissa_bits: int) -> _Law:
    unit = 2.0 ** -(mantissa_bits + 1)  # the largest relative error of a rounding
    return _Law(constant=5e-5, factor=2 * unit**2, power=1, worst_to_mean=_WORST_TO_MEAN)


_LAWS = {
    # fp32's own roundings are far below this; other kernels' exp and erf are not.
    "fp32": _Law(constant=1e-5, factor=0, power=1, worst_to_mean=1),
    "fp16": _sixteen_bit(10),
    "bf16": _sixteen_bit(7),
    "fp8": _Law(constant=0, factor=2.4e-3, power=0.5, worst_to_mean=_WORST_TO_MEAN),
    "int8": _Law(constant=0, factor=4e-3, power=0.5, worst_to_mean=4),
}
#: For a precision of a foreign manifest that we do not know.
_LAW_ELSE = _LAWS["int8"]


def cosine_bounds(profile: Profile, *, layers: int | None) -> CosineBounds:
    """The bounds the profile must meet: its manifest's if that states any, else those of format and depth.

    A stated `min_cosine` replaces both, so that a manifest can be stricter, or laxer for weights known to
    need it; `min_mean_cosine` alone is added to the rule's worst.
    """
    by_rule = rounding_bounds(profile.precision, layers=layers)
    if profile.min_cosine is not None:
        mean = -1.0 if profile.min_mean_cosine is None else profile.min_mean_cosine
        return CosineBounds(worst=profile.min_cosine, mean=mean)
    if profile.min_mean_cosine is not None:
        return CosineBounds(worst=by_rule.worst, mean=profile.min_mean_cosine)
    return by_rule


def at_least_as_strict(one: Profile, other: Profile, *, layers: int | None) -> bool:
    """True if what meets the bounds of `one` also meets those of `other`, a profile of the same model."""
    mine, others = (cosine_bounds(each, layers=layers) for each in (one, other))
    return mine.worst >= others.worst and mine.mean >= others.mean


def rounding_bounds(precision: str, *, layers: int | None) -> CosineBounds:
    """What a sound network of that depth reaches in that number format, with the lab's margins."""
    law = _LAWS.get(precision, _LAW_ELSE)
    depth = _LAYERS_ELSE if layers is None else layers
    loss = law.loss(depth)
    why = f"{precision} in {layers} layers" if layers else f"{precision}, as in {depth} layers"
    return CosineBounds(worst=1 - law.worst_to_mean * loss, mean=1 - loss, why=why)
