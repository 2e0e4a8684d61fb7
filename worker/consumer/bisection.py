"""Finds the texts of a job that kill workers by bisection, death by death. Pure: no clock, no Redis.

Between runs the state is a line of text in the job's hash; when a worker dies, the queue's scripts append the
range that was under test.
"""

from dataclasses import dataclass, replace
from typing import Self

KILLER_AFTER = 3  # deaths in a row of one text alone; twice may be chance, such as machines taken away
MAX_DEATHS = 64  # 43 suffice to find three killers among 4,096 texts, wherever they are


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The texts from index `start` of the request up to, but not including, `end`."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def halves(self) -> "tuple[Range, Range]":
        """The first and the second half; needs at least two texts."""
        middle = (self.start + self.end) // 2
        return Range(self.start, middle), Range(middle, self.end)

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of `str`. Raises ValueError."""
        start, end = map(int, text.split("-"))
        return cls(start, end)


NOTHING = Range(0, 0)  # under test while the job runs but none of its texts: only the death is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """What is known of a job that a worker held when it died.

    Each text is one of `killers`, or in one range of `suspects` or of `cleared`, which a worker survived. A
    range that killed is split and never joined again, since texts may kill only together. `lone_deaths` has a
    text once for each death in a row while it ran alone.
    """

    num_deaths: int = 0
    killers: tuple[int, ...] = ()
    lone_deaths: tuple[int, ...] = ()
    suspects: tuple[Range, ...] = ()
    cleared: tuple[Range, ...] = ()

    @property
    def exhausted(self) -> bool:
        """True if the job has killed as many workers as it may."""
        return self.num_deaths >= MAX_DEATHS

    @property
    def ranges(self) -> tuple[Range, ...]:
        """All ranges to run, one after the other: suspects first."""
        return self.suspects + self.cleared

    def over(self, num_texts: int) -> "Bisection":
        """This bisection if it covers that many texts, else a new one with all of them as suspects."""
        if sum(map(len, self.ranges)) + len(self.killers) == num_texts:
            return self
        return Bisection(num_deaths=self.num_deaths, suspects=(Range(0, num_texts),))

    def survived(self, some: Range) -> "Bisection":
        """The bisection after a worker survived these texts."""
        return replace(
            self,
            lone_deaths=_without(self.lone_deaths, some),
            suspects=tuple(one for one in self.suspects if one != some),
            cleared=(*(one for one in self.cleared if one != some), some),
        )

    def died(self, some: Range) -> "Bisection":
        """The bisection after a worker died while these texts were under test, of them or by chance."""
        others = tuple(one for one in self.suspects if one != some)
        after = replace(self, num_deaths=self.num_deaths + 1)
        if len(some) == 0:
            return after
        after = replace(after, cleared=tuple(one for one in self.cleared if one != some))
        if len(some) > 1:
            return replace(after, suspects=some.halves() + others)
        if self.lone_deaths.count(some.start) < KILLER_AFTER - 1:
            return replace(after, lone_deaths=(*self.lone_deaths, some.start), suspects=(some, *others))
        return replace(
            after,
            killers=tuple(sorted({*self.killers, some.start})),
            lone_deaths=_without(self.lone_deaths, some),
            suspects=others,
        )

    @property
    def fields(self) -> dict[str, int | str]:
        """Fields for the log: the number of deaths, the killers found, and the ranges still suspected."""
        suspects, killers = (",".join(map(str, part)) for part in (self.suspects, self.killers))
        return {"deaths": self.num_deaths, "suspects": suspects, "killers": killers}

    def encode(self) -> str:
        """One line, a few bytes per range."""
        parts = (self.killers, self.lone_deaths, self.suspects, self.cleared)
        return ";".join([str(self.num_deaths), *(",".join(map(str, part)) for part in parts)])

    @classmethod
    def decode(cls, line: str) -> "Bisection":
        """The inverse of `encode`, plus the deaths that the scripts appended; empty for a new bisection.

        Raises ValueError.
        """
        head, *deaths = line.split("+")
        bisection = cls()
        if head:
            num_deaths, killers, lone_deaths, suspects, cleared = head.split(";")
            bisection = cls(
                num_deaths=int(num_deaths),
                killers=tuple(map(int, _items(killers))),
                lone_deaths=tuple(map(int, _items(lone_deaths))),
                suspects=tuple(map(Range.parse, _items(suspects))),
                cleared=tuple(map(Range.parse, _items(cleared))),
            )
        for death in deaths:
            bisection = bisection.died(Range.parse(death))
        return bisection


def _items(part: str) -> list[str]:
    return part.split(",") if part else []


def _without(positions: tuple[int, ...], some: Range) -> tuple[int, ...]:
    return tuple(at for at in positions if not some.start <= at < some.end)
