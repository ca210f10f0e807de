"""What a measure found, in a form that a page and a file take: nothing here measures anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Verdict:
    """A goal and what came of it."""

    what: str
    goal: str
    found: str
    met: bool | None
    """None: it could not be measured; ``found`` says why."""


@dataclass(frozen=True)
class Grid:
    """A table of the page."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Line:
    """One named row of points."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Plot:
    """A picture of the page: bars where there is one point a line, else lines."""

    title: str
    x: str
    y: str
    lines: Sequence[Line]
    logarithmic_x: bool = False


@dataclass
class Result:
    """One measure's."""

    key: str
    """``P1``."""
    title: str
    began: str
    """Date and time, UTC, ISO 8601."""
    took_s: float = 0.0
    method: str = ""
    """How it was measured: a paragraph."""
    verdicts: list[Verdict] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a reader has to know of the figures: what was missing, what failed."""
    numbers: dict[str, float] = field(default_factory=dict)
    """For docs/sizing.md and other measures."""
    other_share: float = 0.0
    """The most that others used of the machine in one trial, in cores."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Result:
        """Raises TypeError or KeyError for what another version wrote."""
        found = dict(found)
        found["verdicts"] = [Verdict(**each) for each in found["verdicts"]]
        found["grids"] = [Grid(**each) for each in found["grids"]]
        found["plots"] = [
            Plot(
                **(
                    each
                    | {"lines": [Line(line["name"], [(x, y) for x, y in line["points"]]) for line in each["lines"]]}
                )
            )
            for each in found["plots"]
        ]
        return cls(**found)
