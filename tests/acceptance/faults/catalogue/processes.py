"""Processes that die, freeze, come and go."""

from __future__ import annotations

import asyncio
import signal
import time

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.world import PARTITIONS, World
from tests.support.service import Service
from tests.support.waiting import eventually

EXIT_WITHIN_S = 45
"""Grace, commit and leave, and what a loaded machine takes longer."""


@fault("sigkill-one", "SIGKILL of one of two consumers while it writes", services=2, ci=True)
async def sigkill_one(world: World) -> None:
    world.services[0].kill()
    world.over()
    await world.flows(300)


@fault("sigkill-all", "SIGKILL of both consumers at once, twice over", services=2)
async def sigkill_all(world: World) -> None:
    for _ in range(2):
        await world.flows(world.randomness.randrange(50, 400))
        for service in world.running:
            service.process.kill()
        for service in world.services:
            await asyncio.to_thread(service.process.wait, 10)
        for _ in range(2):
            world.start_service()
    world.over()


@fault("sigterm-write", "SIGTERM during a write (each packet of the database 30 ms late), twice", rate=60)
async def sigterm_write(world: World) -> None:
    world.to_database.delay(0.03)
    for _ in range(2):
        await world.flows(world.randomness.randrange(50, 300))
        assert await asyncio.to_thread(world.service.stop, EXIT_WITHIN_S) == 0
        world.start_service()
    world.to_database.delay(0)
    world.over()


@fault("sigterm-retry", "SIGTERM while the database is cut off and every lane retries")
async def sigterm_retry(world: World) -> None:
    world.to_database.cut()
    await world.said(world.service, "can't write")
    assert await asyncio.to_thread(world.service.stop, EXIT_WITHIN_S) == 0
    world.to_database.heal()
    world.start_service()
    world.over()


@fault("sigterm-start", "SIGTERM at eight moments of a start, and while it waits for its database")
async def sigterm_start(world: World) -> None:
    assert await asyncio.to_thread(world.service.stop, EXIT_WITHIN_S) == 0
    for number in range(8):
        service, after_s = world.start_service(), 0.25 * number + world.randomness.random() * 0.25
        await world.lasting(after_s, holds=_nothing_yet)
        code = await asyncio.to_thread(service.stop, EXIT_WITHIN_S)
        # Before Python has any handler, SIGTERM ends it as it ends any process.
        assert code in (0, -signal.SIGTERM), f"exit code {code} {after_s:.2f} s after the start"
    world.to_database.cut()
    waiting = world.start_service()
    await world.said(waiting, "no answer yet")
    assert await asyncio.to_thread(waiting.stop, EXIT_WITHIN_S) == 0
    world.to_database.heal()
    world.start_service()
    world.over()


async def _nothing_yet() -> bool:
    return True


async def owns_all(service: Service) -> bool:
    said = service.said("partitions assigned")
    return bool(said) and sum(map(len, said[-1]["partitions"].values())) == PARTITIONS * len(topics.ALL) + 1


@fault(
    "zombie",
    "SIGSTOP of one of two consumers past its session timeout (3 s); the other takes over; SIGCONT",
    services=2,
    LOOM_KAFKA_SESSION_TIMEOUT_MS="3000",
)
async def zombie(world: World) -> None:
    frozen, heir = world.services
    frozen.signal(signal.SIGSTOP)
    try:
        await eventually(lambda: owns_all(heir), within_s=90)
        # The frozen one may hold rows of the ledger locked: the heir ends its session then.
        for each in topics.ALL:
            await world.flows(50, each)
    finally:
        frozen.signal(signal.SIGCONT)
    world.over()
    await world.flows(300)


@fault(
    "rebalance-storm",
    "for a minute, two consumers join as soon as the last two have left, beside one that stays",
    LOOM_KAFKA_SESSION_TIMEOUT_MS="10000",
)
async def rebalance_storm(world: World) -> None:
    until, joined = time.monotonic() + 60, 0
    while time.monotonic() < until:
        guests = [world.start_service(), world.start_service()]
        for guest in guests:
            await world.said(guest, "running")
        joined += len(guests)
        codes = await asyncio.gather(*(asyncio.to_thread(guest.stop, EXIT_WITHIN_S) for guest in guests))
        assert not any(codes), codes
    world.notes.append(f"{joined} joined and left")
    world.over()


@fault("killed-in-turn", "three consumers, each killed in turn for ten minutes", services=3)
async def killed_in_turn(world: World) -> None:
    until, killed = time.monotonic() + 600, 0
    while time.monotonic() < until:
        await world.flows(world.randomness.randrange(100, 2_000))
        world.running[0].kill()
        killed += 1
        await world.said(world.start_service(), "partitions assigned")
    world.notes.append(f"{killed} killed")
    world.over()
