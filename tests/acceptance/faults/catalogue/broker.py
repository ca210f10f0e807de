"""The broker restarts, or is gone."""

from __future__ import annotations

import asyncio

from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.world import World

GONE_S = 90


@fault("broker-restart", "SIGKILL of the broker, and started again", services=2)
async def broker_restart(world: World) -> None:
    world.traffic.hold()
    broker = world.stand.broker
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)
    world.over()
    world.traffic.go_on()
    await world.flows(300)


@fault("broker-stop", "the broker stopped cleanly and started again, while producers send", services=2)
async def broker_stop(world: World) -> None:
    broker = world.stand.broker
    await asyncio.to_thread(broker.stop)
    await asyncio.to_thread(broker.start)
    world.over()
    await world.flows(300)


@fault("broker-gone", f"the broker stopped for {GONE_S} s, fifteen sessions long", services=2)
async def broker_gone(world: World) -> None:
    world.traffic.hold()
    broker = world.stand.broker
    await asyncio.to_thread(broker.stop)
    for service in world.services:
        await world.ready(service, because="broker")
    await world.lasting(GONE_S)
    await asyncio.to_thread(broker.start)
    world.over()
    world.traffic.go_on()
    await world.flows(300)
