"""Figures: what a repeated measurement comes to, and how it is written. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Spread:
    """The least, the median and the greatest of some repetitions."""

    low: float
    middle: float
    high: float
    times: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Raises ValueError for none."""
        found = sorted(values)
        if not found:
            raise ValueError("no repetition, no spread")
        return cls(found[0], median(found), found[-1], len(found))

    def __str__(self) -> str:
        if self.times == 1:
            return written(self.middle)
        return f"{written(self.middle)} ({written(self.low)}–{written(self.high)})"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that ``share`` of them don't exceed (the nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("no values, no quantile")
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def written(value: float) -> str:
    """For a table: whole numbers from 100 on, else three significant digits."""
    if value != value:  # NaN: it could not be measured
        return "–"
    if math.isinf(value):
        return "∞"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"
