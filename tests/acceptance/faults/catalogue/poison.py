"""Messages that must become dead letters, and nothing else must."""

from __future__ import annotations

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.traffic import Sent
from tests.acceptance.faults.world import World
from tests.support import kafka
from tests.support.waiting import eventually


@fault(
    "poison-1", "1 % of the messages poison: no JSON, against the contract, refused by a CHECK", poison=0.01, ci=True
)
async def poison_1(world: World) -> None:
    await world.flows(4_000)
    world.over()


@fault("poison-50", "half of the messages poison", services=2, poison=0.5)
async def poison_50(world: World) -> None:
    await world.flows(6_000)
    world.over()


@fault(
    "poison-topic",
    "2,000 messages of one topic all poison: its fuse opens, the others flow; `ingest resume --accept`",
    letters=True,
    LOOM_KAFKA_BATCH_SIZE="20",
    LOOM_BATCH_MAX_MESSAGES="60",
    LOOM_KAFKA_MAX_POLL_RECORDS="50",
)
async def poison_topic(world: World) -> None:
    name, service = world.name(topics.PLAIN), world.service
    await world.traffic.quiet()
    await world.caught_up()  # a good message among the bad ones would end what is accepted
    world.traffic.without = {topics.PLAIN.name}
    sent = [Sent(topics.PLAIN.name, f"{world.suffix}-bad-{number}", "letter") for number in range(2_000)]
    at = await kafka.produce(world.stand.stack.kafka, name, [f'{{"{each.identity}'.encode() for each in sent])
    for each, (partition, offset) in zip(sent, at, strict=True):
        each.partition, each.offset = partition, offset
    world.traffic.sent.extend(sent)
    await world.said(service, "fuse opened")
    world.traffic.go_on()
    for other in topics.ALL[1:]:
        await world.flows(200, other)
    (open_now,) = await world.sql("SELECT count(*)::int AS n FROM ingest_dead_letters")
    assert open_now["n"] < 400, "dead letters went on though the fuse is open"
    assert await world.healthy()
    await world.command("resume", name, "--accept")
    world.over()

    async def letters() -> int:
        (row,) = await world.sql("SELECT count(*)::int AS n FROM ingest_dead_letters")
        return int(row["n"])

    await eventually(letters, until=lambda n: n == len(sent), within_s=120)
    world.traffic.without = set()
