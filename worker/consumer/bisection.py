"""Which texts of a job kill workers, narrowed down death by death. Pure: no clock, no Redis.

Between two runs the state is a line of text in the job's hash, to whose end the scripts of
`producer.queue.lease_scripts` add what was on trial when a worker died.
"""

from dataclasses import dataclass, replace
from typing import Self

CONDEMNED_AFTER = 3  # deaths of one text alone, in a row: a machine that is taken away twice is not rare
MAX_DEATHS = 64  # a job of 4,096 texts is cleared of three killers, wherever they are, by 43


@dataclass(frozen=True, slots=True, order=True)
class Range:
    """The texts from `start` up to, but not including, `end`, by their index in the request."""

    start: int
    end: int

    def __len__(self) -> int:
        return self.end - self.start

    def halves(self) -> "tuple[Range, Range]":
        """The first and the second half; for two texts or more."""
        middle = (self.start + self.end) // 2
        return Range(self.start, middle), Range(middle, self.end)

    def __str__(self) -> str:
        return f"{self.start}-{self.end}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """What `str` gave; ValueError for anything else."""
        start, end = map(int, text.split("-"))
        return cls(start, end)


NOTHING = Range(0, 0)  # on trial while the job runs but none of its texts: only the death is counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Bisection:
    """What is known of a job that ran when a worker died.

    Each text is one of `killers`, or in one range of `suspects` or `cleared`: those that were survived. A
    range is split where it killed, and never joined again, since texts may kill only together. `accused` has
    a text once for each death in a row while it was alone.
    """

    num_deaths: int = 0
    killers: tuple[int, ...] = ()
    accused: tuple[int, ...] = ()
    suspects: tuple[Range, ...] = ()
    cleared: tuple[Range, ...] = ()

    @property
    def exhausted(self) -> bool:
        """True if the job has cost as many workers as it may."""
        return self.num_deaths >= MAX_DEATHS

    @property
    def ranges(self) -> tuple[Range, ...]:
        """All that is to be run, one after the other: suspects first."""
        return self.suspects + self.cleared

    def over(self, num_texts: int) -> "Bisection":
        """The trial of a job with so many texts: as it is, or all of them if none was on trial yet."""
        if sum(map(len, self.ranges)) + len(self.killers) == num_texts:
            return self
        return Bisection(num_deaths=self.num_deaths, suspects=(Range(0, num_texts),))

    def survived(self, some: Range) -> "Bisection":
        """Its texts were computed, and the worker lives."""
        return replace(
            self,
            accused=_without(self.accused, some),
            suspects=tuple(one for one in self.suspects if one != some),
            cleared=(*(one for one in self.cleared if one != some), some),
        )

    def died(self, some: Range) -> "Bisection":
        """The worker died while these texts were on trial, by their fault or by chance."""
        others = tuple(one for one in self.suspects if one != some)
        after = replace(self, num_deaths=self.num_deaths + 1)
        if len(some) == 0:
            return after
        after = replace(after, cleared=tuple(one for one in self.cleared if one != some))
        if len(some) > 1:
            return replace(after, suspects=some.halves() + others)
        if self.accused.count(some.start) < CONDEMNED_AFTER - 1:
            return replace(after, accused=(*self.accused, some.start), suspects=(some, *others))
        return replace(
            after,
            killers=tuple(sorted({*self.killers, some.start})),
            accused=_without(self.accused, some),
            suspects=others,
        )

    @property
    def fields(self) -> dict[str, int | str]:
        """For the log: how many deaths, which texts kill, and what is still to be told apart."""
        suspects, killers = (",".join(map(str, part)) for part in (self.suspects, self.killers))
        return {"deaths": self.num_deaths, "suspects": suspects, "killers": killers}

    def encode(self) -> str:
        """One line, a few bytes for each range."""
        parts = (self.killers, self.accused, self.suspects, self.cleared)
        return ";".join([str(self.num_deaths), *(",".join(map(str, part)) for part in parts)])

    @classmethod
    def decode(cls, line: str) -> "Bisection":
        """What `encode` gave, and then the deaths that the scripts have added; empty: nothing tried yet.

        ValueError for anything else.
        """
        head, *deaths = line.split("+")
        trial = cls()
        if head:
            num_deaths, killers, accused, suspects, cleared = head.split(";")
            trial = cls(
                num_deaths=int(num_deaths),
                killers=tuple(map(int, _items(killers))),
                accused=tuple(map(int, _items(accused))),
                suspects=tuple(map(Range.parse, _items(suspects))),
                cleared=tuple(map(Range.parse, _items(cleared))),
            )
        for death in deaths:
            trial = trial.died(Range.parse(death))
        return trial


def _items(part: str) -> list[str]:
    return part.split(",") if part else []


def _without(positions: tuple[int, ...], some: Range) -> tuple[int, ...]:
    return tuple(at for at in positions if not some.start <= at < some.end)
