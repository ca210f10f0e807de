"""What is asked in which order, so that a service that goes on meanwhile never looks like a fault."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from ingest import standing
from ingest.consumer import ASK_BROKER_S, MARKER, Bounds, Committed
from ingest.errors import FatalError
from ingest.inquiry import Inquiry, Place, _answer
from ingest.offsets import plan
from ingest.reconcile import judge
from ingest.settings import KafkaSettings
from ingest.standing import Row, Standing, _Snapshot

PLACE = ("a", 0)
NOW = datetime(2026, 11, 26, 20, tzinfo=UTC)


class Moving:
    """Broker and ledger of a partition in which, between any two questions, messages arrive, are written and
    committed, and retention takes whatever is written."""

    def __init__(self) -> None:
        self.now = 0
        self.led = True

    def tick(self) -> int:
        self.now += 10
        return self.now

    async def partitions(self, _topics: Collection[str]) -> dict[Place, bool]:
        self.tick()
        return {PLACE: self.led}

    async def starts(self, places: Collection[Place]) -> dict[Place, int]:
        return dict.fromkeys(places, self.tick())  # all that is written is gone

    async def committed(self, places: Collection[Place]) -> dict[Place, Committed]:
        return dict.fromkeys(places, Committed(self.tick(), f"{MARKER}ours"))

    async def ends(self, places: Collection[Place]) -> dict[Place, int]:
        return dict.fromkeys(places, self.tick())  # all is written

    async def snapshot(self, *_: Any) -> _Snapshot:
        at = self.tick()
        return _Snapshot("ours", {PLACE: Row(at, 0, at, 0, 0, 0, 0, None, NOW)}, {}, {}, {})


class Engine:
    """Stands in for the engine: the snapshot is the fake's."""

    @asynccontextmanager
    async def connect(self) -> Any:
        yield self

    async def execution_options(self, **options: Any) -> None:
        assert options["isolation_level"] == "REPEATABLE READ"


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Moving:
    moving = Moving()
    monkeypatch.setattr(standing, "_snapshot", moving.snapshot)
    return moving


async def read(moving: Moving) -> list[Standing]:
    _, found = await standing.read(cast(Any, Engine()), cast(Inquiry, moving), "group", ["a"])
    return found


def said(found: list[Standing]) -> list[str]:
    return [each.text for each in judge(found, KafkaSettings(bootstrap_servers="nowhere:9092"), "ours")]


async def test_what_goes_on_while_it_is_read_is_no_finding(moving: Moving) -> None:
    (found,) = await read(moving)
    assert found.row is not None and found.bounds is not None and found.committed is not None
    assert found.bounds.start < found.committed.offset < found.row.next_offset < found.bounds.end
    assert said([found]) == []
    # It could have failed: each of the three, asked for on the ledger's other side, is remarked on.
    assert said([replace(found, bounds=Bounds(found.bounds.end, found.bounds.end))]) != []
    assert said([replace(found, bounds=Bounds(found.bounds.start, found.bounds.start))]) != []
    assert said([replace(found, committed=Committed(found.bounds.end, f"{MARKER}ours"))]) != []


async def test_a_partition_without_a_leader_is_not_asked_about_and_is_told(moving: Moving) -> None:
    moving.led = False
    (found,) = await read(moving)
    assert (found.bounds, found.leaderless) == (None, True)
    (text,) = said([found])
    assert text.startswith("it has no leader")
    with pytest.raises(FatalError, match="a: partition 0 without a leader"):
        await plan(cast(Any, Engine()), cast(Inquiry, moving), "group", "a", None, "latest")


async def test_a_broker_that_does_not_answer_is_told_with_the_question(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ASK_BROKER_S == 20
    monkeypatch.setattr("ingest.inquiry.ASK_BROKER_S", 0)
    with pytest.raises(FatalError, match=r"^broker: no answer about where the logs end within 0 s; is LOOM_KAFKA"):
        async with _answer("where the logs end"):
            await asyncio.Event().wait()
