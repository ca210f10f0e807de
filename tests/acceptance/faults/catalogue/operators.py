"""Somebody changes the ledger by hand while it is used."""

from __future__ import annotations

from aiokafka import TopicPartition

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.world import World
from tests.support import kafka
from tests.support.waiting import eventually

BACK = 40


@fault("ledger-moved", f"next_offset of one partition moved back by {BACK} by hand (first-wins table)", services=2)
async def ledger_moved(world: World) -> None:
    await world.flows(600, topics.FIRST)
    ledger = await world.ledger(topics.FIRST)
    (name, partition), at = max(ledger.items(), key=lambda each: each[1])
    assert at > BACK, f"too few messages to move back: {ledger}"
    moved = "UPDATE ingest_offsets SET next_offset = next_offset - $3::bigint WHERE topic = $1 AND partition = $2"
    async with world.connection() as connection:
        assert await connection.execute(moved, name, partition, BACK) == "UPDATE 1"
    world.extra[topics.FIRST.name, partition] = BACK
    world.over()

    async def noticed() -> bool:
        return any(each.said("the ledger moved back") or each.said("fenced") for each in world.services)

    await eventually(noticed, within_s=60)
    world.notes.append(f"{BACK} read again, as duplicates")


@fault("ledger-row-deleted", "the ledger's row of one partition deleted by hand, and put back after 35 s", services=2)
async def ledger_row_deleted(world: World) -> None:
    where = TopicPartition(world.name(topics.PLAIN), 1)
    async with kafka.admin(world.stand.stack.kafka) as admin:
        # Kafka's own offset follows within a second; only with it can a lost row be told from one that never was.
        await eventually(
            lambda: admin.list_consumer_group_offsets(world.group, partitions=[where]),
            until=lambda found: where in found and found[where].offset > 0,
        )
    deleted = await world.sql(
        "DELETE FROM ingest_offsets WHERE topic = $1 AND partition = 1 RETURNING *", world.name(topics.PLAIN)
    )

    async def refused() -> bool:
        said = [line for each in world.services for line in each.said("partition not read")]
        return any("the ledger is lost" in line["reason"] for line in said)

    await eventually(refused, within_s=60)
    await world.lasting(35)
    for other in topics.ALL[1:]:
        await world.flows(100, other)
    columns = list(deleted[0])
    places = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
    await world.sql(
        f"INSERT INTO ingest_offsets ({', '.join(columns)}) VALUES ({places})",  # noqa: S608 - its own columns
        *deleted[0].values(),
    )
    world.over()
