"""The network between the service and its broker or its database fails."""

from __future__ import annotations

from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.world import World
from tests.support.proxy import Proxy
from tests.support.waiting import eventually

CUT_S = 30


async def _told_and_forgotten(world: World, between: Proxy, reason: str) -> None:
    """What is broken is told by ``/readyz`` while it is, and nobody restarts for it."""
    for service in world.services:
        await world.ready(service, because=reason)
    await world.lasting(CUT_S)
    between.heal()
    world.over()
    for service in world.services:
        await world.ready(service)
    await world.flows(300)


@fault("commit-reply-cut", "connection reset in the middle of COMMIT's reply, eight times", ci=True)
async def commit_reply_cut(world: World) -> None:
    async def sprung() -> bool:
        return world.to_database.sprung

    for _ in range(8):
        world.to_database.once(b"COMMIT;", "answer")
        await eventually(sprung, within_s=60)
        await world.flows(20)
    world.over()


@fault(
    "commit-no-reply", "COMMIT arrives, its reply never does, the connection stays open; twice", recovers_within_s=180
)
async def commit_no_reply(world: World) -> None:
    async def sprung() -> bool:
        return world.to_database.sprung

    for _ in range(2):
        world.to_database.once(b"COMMIT;", "mute")
        await eventually(sprung, within_s=60)
        await world.flows(20)
    world.over()


@fault("commit-not-sent", "COMMIT never arrives, the connection stays open: the old backend holds its locks")
async def commit_not_sent(world: World) -> None:
    async def sprung() -> bool:
        return world.to_database.sprung

    world.to_database.once(b"COMMIT;", "swallow")
    await eventually(sprung, within_s=60)
    world.over()


@fault("database-cut", f"network to the database cut for {CUT_S} s: resets and refusals")
async def database_cut(world: World) -> None:
    world.to_database.cut()
    await _told_and_forgotten(world, world.to_database, "database")
    assert len(world.service.said("partitions assigned")) == 1, "membership was not kept"


@fault("database-black-hole", f"network to the database a black hole for {CUT_S} s and until it is noticed")
async def database_black_hole(world: World) -> None:
    world.to_database.black_hole()
    await _told_and_forgotten(world, world.to_database, "database")
    assert len(world.service.said("partitions assigned")) == 1, "membership was not kept"


@fault("broker-cut", f"network to the broker cut for {CUT_S} s, five sessions long", services=2)
async def broker_cut(world: World) -> None:
    world.to_broker.cut()
    await _told_and_forgotten(world, world.to_broker, "broker")


@fault("broker-black-hole", f"network to the broker a black hole for {CUT_S} s, five sessions long", services=2)
async def broker_black_hole(world: World) -> None:
    world.to_broker.black_hole()
    await _told_and_forgotten(world, world.to_broker, "broker")


@fault("broker-resets", "all connections to the broker reset ten times", services=2)
async def broker_resets(world: World) -> None:
    for _ in range(10):
        world.to_broker.reset()
        await world.flows(150)
    world.over()


@fault("database-resets", "all connections to the database reset twenty times", services=2)
async def database_resets(world: World) -> None:
    for _ in range(20):
        world.to_database.reset()
        await world.flows(60)
    world.over()


@fault("database-slow", "each packet to and from the database 200 ms late, for 3,000 messages")
async def database_slow(world: World) -> None:
    world.to_database.delay(0.2)
    await world.flows(3_000)
    assert await world.healthy()
    world.to_database.delay(0)
    world.over()


@fault("broker-slow", "each packet to and from the broker 100 ms late and 100 kB/s a connection", services=2)
async def broker_slow(world: World) -> None:
    world.to_broker.delay(0.1)
    world.to_broker.limit(100_000)
    await world.flows(3_000)
    assert await world.healthy()
    world.to_broker.delay(0)
    world.to_broker.limit(None)
    world.over()
