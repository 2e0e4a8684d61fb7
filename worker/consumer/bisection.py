"""Finds the texts of a job that kill workers by bisection, death by death. Pure: no clock, no Redis.

Between runs the state is a line of text in the job's hash; when a worker dies, the queue's scripts append the
range that was under test.
"""

from dataclasses import dataclass, replace
from typing import Self

KILLER_AFTER = 3  # deaths in a row while one text ran alone; two may be chance, such as preempted machines
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


NOTHING = Range(0, 0)  # marked while none of the job's texts runs: a death is only counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """The state of the search for the texts of a job that kill workers.

    Each text is in `killers`, in a range of `suspects`, or in a range of `cleared`, which a worker survived.
    A range that killed a worker is split and never rejoined, since some texts kill only in combination.
    `lone_deaths` lists a text once for each death in a row while it ran alone.
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

    def survived(self, tested: Range) -> "Bisection":
        """The bisection after a worker survived these texts."""
        return replace(
            self,
            lone_deaths=_without(self.lone_deaths, tested),
            suspects=tuple(span for span in self.suspects if span != tested),
            cleared=(*(span for span in self.cleared if span != tested), tested),
        )

    def died(self, tested: Range) -> "Bisection":
        """The bisection after a worker died with these texts under test, because of them or by chance."""
        others = tuple(span for span in self.suspects if span != tested)
        after = replace(self, num_deaths=self.num_deaths + 1)
        if len(tested) == 0:
            return after
        after = replace(after, cleared=tuple(span for span in self.cleared if span != tested))
        if len(tested) > 1:
            return replace(after, suspects=tested.halves() + others)
        if self.lone_deaths.count(tested.start) < KILLER_AFTER - 1:
            return replace(after, lone_deaths=(*self.lone_deaths, tested.start), suspects=(tested, *others))
        return replace(
            after,
            killers=tuple(sorted({*self.killers, tested.start})),
            lone_deaths=_without(self.lone_deaths, tested),
            suspects=others,
        )

    @property
    def fields(self) -> dict[str, int | str]:
        """Fields for the log: the number of deaths, the killers found, and the ranges still suspected."""
        suspects, killers = (",".join(map(str, part)) for part in (self.suspects, self.killers))
        return {"deaths": self.num_deaths, "suspects": suspects, "killers": killers}

    def encode(self) -> str:
        """Encode as one line, a few bytes per range."""
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


def _without(positions: tuple[int, ...], span: Range) -> tuple[int, ...]:
    return tuple(at for at in positions if not span.start <= at < span.end)
