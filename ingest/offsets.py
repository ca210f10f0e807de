"""Moving what is read next, by an operator: planned first, then carried out while nobody of the group runs.

Promise kept here: nothing is skipped or repeated silently. Each move is a row of ``ingest_offset_gaps``, written in the
transaction that moves the ledger.

Nobody runs: that is asked once more behind the lock of the rows. A process reads its rows after it has joined the
group, and waits for that lock; so one that comes in between is either seen or finds the new place. A process that was
frozen and has lost its membership is fenced by its next transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ingest import ledger
from ingest.consumer import Bounds
from ingest.database import sqlstate_of
from ingest.errors import FatalError
from ingest.inquiry import Group, Inquiry, Place

Target = int | Literal["earliest", "latest"] | datetime
_LOCK_NOT_AVAILABLE = "55P03"
_LOCK_TIMEOUT = text("SET LOCAL lock_timeout = '10s'")


@dataclass(frozen=True, slots=True)
class Step:
    """What a move does to one partition."""

    partition: int
    from_offset: int | None
    """Where the ledger stands; None: it has no row yet, and gets one."""
    to_offset: int
    committed: int | None = None
    """Where there is no row: what the group has committed, which is where a former system stood, or a lost ledger."""

    @property
    def start(self) -> int:
        """Where the move begins: at the row, or at what the group has committed, or, without either, where it leads."""
        for known in (self.from_offset, self.committed):
            if known is not None:
                return known
        return self.to_offset


async def plan(
    engine: AsyncEngine, inquiry: Inquiry, group: str, topic: str, partition: int | None, target: Target
) -> list[Step]:
    """What moving the topic, or one partition of it, would do. Changes nothing.

    Raises FatalError for an offset that the broker does not have, or a partition.
    """
    known = await inquiry.partitions([topic])
    places = {each for each in known if partition in (None, each[1])}
    if not places:
        which = topic if partition is None else f"partition {partition} of {topic}"
        raise FatalError(f"the broker has no {which}, or does not show it to this login")
    if leaderless := [f"partition {place[1]}" for place in sorted(places) if not known[place]]:
        raise FatalError(
            f"{topic}: {_few(leaderless)} without a leader: the broker can't tell where they begin and end. Try again"
        )
    starts, ends = await inquiry.starts(places), await inquiry.ends(places)
    bounds = {place: Bounds(starts[place], ends[place]) for place in places}
    to = await _resolve(inquiry, bounds, target)
    wrong = [
        f"partition {place[1]} holds {bounds[place].start} to {bounds[place].end}"
        for place, offset in sorted(to.items())
        if not bounds[place].start <= offset <= bounds[place].end
    ]
    if wrong:
        raise FatalError(f"offset {target} of {topic} is not on the broker: {_few(wrong)}")
    async with engine.connect() as connection:
        stands = await ledger.read_all(connection, group, [topic])
    committed = await inquiry.committed(places - set(stands))
    return [
        Step(place[1], stands.get(place), offset, committed[place].offset if place in committed else None)
        for place, offset in sorted(to.items())
    ]


async def _resolve(inquiry: Inquiry, bounds: Mapping[Place, Bounds], target: Target) -> dict[Place, int]:
    if isinstance(target, int):
        return dict.fromkeys(bounds, target)
    if isinstance(target, datetime):
        found = await inquiry.at(bounds.keys(), round(target.timestamp() * 1000))
        # No message so late, or only ones that are not decided yet: what comes next.
        ends = {place: each.end for place, each in bounds.items()}
        return {place: ends[place] if hit is None else min(hit, ends[place]) for place, hit in found.items()}
    return {place: each.start if target == "earliest" else each.end for place, each in bounds.items()}


def activity(group: str, found: Group) -> str | None:
    """What keeps the offsets from being set: who runs. None while nobody does."""
    if not found.active:
        return None
    members = f": {_few(sorted(found.members))}" if found.members else ""
    return (
        f"group {group} is active ({found.state}{members}); stop every process of it first. One that was "
        "killed is a member until its session times out"
    )


async def refuse_active(inquiry: Inquiry, group: str) -> None:
    """Raises FatalError while the group has members."""
    found = activity(group, await inquiry.group())
    if found is not None:
        raise FatalError(found)


async def carry_out(engine: AsyncEngine, inquiry: Inquiry, group: str, topic: str, steps: Sequence[Step]) -> None:
    """Moves the ledger, all steps or none. Raises FatalError while the group is active, or when the ledger has moved
    since the plan was made."""
    wanted = {step.partition: step for step in steps if step.from_offset != step.to_offset}
    # A new row begins where the group had committed: what lies from there to its place is skipped, or comes again.
    new = {number: step.start for number, step in wanted.items() if step.from_offset is None}
    async with engine.begin() as connection:
        await connection.execute(_LOCK_TIMEOUT)
        stands = await _lock(connection, group, topic, wanted)
        await refuse_active(inquiry, group)
        if stands != {number: step.from_offset for number, step in wanted.items() if number not in new}:
            raise FatalError(f"the ledger of {topic} has moved since it was read; nothing was changed. Look again")
        if new:
            await ledger.create(connection, group, topic, new)
            if await _lock(connection, group, topic, new) != new:
                raise FatalError(f"somebody else has just begun {topic}; nothing was changed. Look again")
        for number, step in wanted.items():
            if step.start != step.to_offset:
                from_ = f"{step.start}, which the group had committed," if step.from_offset is None else step.start
                reason = f"set from {from_} to {step.to_offset} by `ingest offsets set`"
                await ledger.move(connection, group, topic, number, step.start, step.to_offset, reason)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


async def _lock(connection: AsyncConnection, group: str, topic: str, partitions: Collection[int]) -> dict[int, int]:
    try:
        return await ledger.lock(connection, group, topic, partitions)
    except Exception as error:
        if sqlstate_of(error) != _LOCK_NOT_AVAILABLE:
            raise
        raise FatalError(
            f"another session has kept the ledger of {topic} locked for 10 s; pg_stat_activity tells whose it is"
        ) from error
