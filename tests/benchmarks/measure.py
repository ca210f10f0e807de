"""A measure: a question with a goal, and how it is asked. They register themselves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.benchmarks.bed import Bed
from tests.benchmarks.result import Result


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    repetitions: int
    rows: int
    """Of a trial of the emotion scores."""
    compared: int
    """P3: more, for a Java peer grows faster while it is compiled."""
    backlog: int
    """P6."""
    largest: int
    """P7: rows of the table at its largest."""
    hour: int
    """P10: messages that wait."""
    seconds: float
    """P5, profile: how long a steady load is watched."""

    @classmethod
    def full(cls, repetitions: int) -> Size:
        return cls(repetitions, 300_000, 500_000, 1_000_000, 10_000_000, 2_000 * 3600, 30.0)

    @classmethod
    def small(cls, repetitions: int, rows: int) -> Size:
        """No trial with more than ``rows``: to see that it works."""
        return cls(repetitions, rows, rows, rows, rows, rows, 5.0)


@dataclass(frozen=True)
class Context:
    """What a measure is asked with."""

    bed: Bed
    size: Size
    found: dict[str, Result]
    """Of the measures before."""

    def say(self, line: str) -> None:
        self.bed.say(f"       {line}")


Ask = Callable[[Context, Result], Awaitable[None]]


@dataclass(frozen=True)
class Measure:
    key: str
    title: str
    ask: Ask


MEASURES: dict[str, Measure] = {}


def in_order() -> list[Measure]:
    """As they are asked and stand on the page: P1 … P10, then the profile."""
    return sorted(MEASURES.values(), key=lambda each: int(each.key[1:]) if each.key[1:].isdigit() else len(MEASURES))


def measure(key: str, title: str) -> Callable[[Ask], Ask]:
    """Registers a measure. It fills the result that it is given; what it raises is a failed measure."""

    def register(ask: Ask) -> Ask:
        assert key not in MEASURES, f"two measures are named {key}"
        MEASURES[key] = Measure(key, title, ask)
        return ask

    return register
