"""What a fault is, and the register of all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.acceptance.faults.world import World

Act = Callable[["World"], Awaitable[None]]


class NotHereError(Exception):
    """The fault can't be made on this machine; says why."""


@dataclass(frozen=True)
class Fault:
    """One line of the matrix.

    ``act`` is called while messages flow and are written. It breaks something, says ``world.over()`` when what is
    broken is whole again, and asserts what the fault promises besides the counts.
    """

    name: str
    done: str
    """For the report: what was done."""
    act: Act
    services: int = 1
    settings: Mapping[str, str] = field(default_factory=dict)
    rate: float = 150
    poison: float = 0.0
    letters: bool = False
    """Whether dead letters are expected. Otherwise there must be none."""
    ci: bool = False
    """Whether it runs with the tests."""
    recovers_within_s: float = 120


FAULTS: dict[str, Fault] = {}


def fault(
    name: str,
    done: str,
    *,
    services: int = 1,
    rate: float = 150,
    poison: float = 0.0,
    letters: bool = False,
    ci: bool = False,
    recovers_within_s: float = 120,
    **settings: str,
) -> Callable[[Act], Act]:
    """Registers a function as a fault. ``settings`` are the service's variables that it changes."""

    def register(act: Act) -> Act:
        assert name not in FAULTS
        FAULTS[name] = Fault(
            name, done, act, services, settings, rate, poison, letters or poison > 0, ci, recovers_within_s
        )
        return act

    return register
