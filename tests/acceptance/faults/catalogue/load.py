"""Messages that are many, large, compressed or dated oddly."""

from __future__ import annotations

from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions

from tests.acceptance.faults import topics
from tests.acceptance.faults.fault import fault
from tests.acceptance.faults.traffic import Sent
from tests.acceptance.faults.world import PARTITIONS, World
from tests.support import kafka, messages
from tests.support.waiting import eventually

BACKLOG = 1_000_000
MOST_MIB = 250
DAY_S = 86_400


async def _send(world: World, client: AIOKafkaProducer, identity: str, body: object, **options: int) -> Sent:
    sent = Sent(topics.PLAIN.name, identity, "row")
    metadata = await client.send_and_wait(world.name(topics.PLAIN), messages.encode(body), **options)
    sent.partition, sent.offset = metadata.partition, metadata.offset
    world.traffic.sent.append(sent)
    return sent


@fault("codecs", "producers with gzip, snappy, lz4 and zstd, 500 messages each")
async def codecs(world: World) -> None:
    for codec in ("gzip", "snappy", "lz4", "zstd"):
        async with kafka.producer(world.stand.stack.kafka, compression_type=codec) as client:
            futures = []
            for number in range(500):
                sent = Sent(topics.PLAIN.name, f"{world.suffix}-{codec}-{number}", "row")
                body = messages.encode(messages.plain(sent.identity))
                futures.append((sent, await client.send(world.name(topics.PLAIN), body)))
            for sent, future in futures:
                metadata = await future
                sent.partition, sent.offset = metadata.partition, metadata.offset
                world.traffic.sent.append(sent)
    world.over()


@fault("large-messages", "30 messages of 5 MB between the others", recovers_within_s=240)
async def large_messages(world: World) -> None:
    async with kafka.producer(world.stand.stack.kafka, max_request_size=8 * 2**20) as client:
        for number in range(30):
            identity = f"{world.suffix}-large-{number}"
            await _send(world, client, identity, messages.plain(identity) | {"unknown": "x" * 5_000_000})
    world.over()
    world.notes.append(f"RSS {world.memory_mib(world.service):.0f} MiB")


@fault(
    "clocks", "the broker's clock a year behind, and message clocks 26 years behind to 23 h ahead; 2 days are too far"
)
async def clocks(world: World) -> None:
    now = int(messages.NOW.timestamp() * 1000)
    async with kafka.producer(world.stand.stack.kafka) as client:
        for number, (kafka_ms, seconds) in enumerate(
            [
                (now - 365 * DAY_S * 1000, -366 * DAY_S),
                (now - 365 * DAY_S * 1000, -364.1 * DAY_S),
                (now, 23 * 3600),
                (now, -26 * 365 * DAY_S),
                (now, 0.0),
            ]
        ):
            identity = f"{world.suffix}-clock-{number}"
            await _send(world, client, identity, messages.plain(identity, seconds), timestamp_ms=kafka_ms)
    world.over()


@fault(
    "clocks-wrong",
    "message clocks two days ahead of the broker's, and in 1999: dead letters, one each",
    letters=True,
)
async def clocks_wrong(world: World) -> None:
    now = int(messages.NOW.timestamp() * 1000)
    async with kafka.producer(world.stand.stack.kafka) as client:
        for number, seconds in enumerate([2 * DAY_S, -27 * 366 * DAY_S] * 10):
            identity = f"{world.suffix}-clock-{number}"
            sent = await _send(world, client, identity, messages.plain(identity, seconds), timestamp_ms=now)
            sent.fate = "letter"
    world.over()


@fault(
    "backlog",
    f"a backlog of {BACKLOG:,} messages with the database cut off: RSS at most {MOST_MIB} MiB, and while it catches up",
    recovers_within_s=900,
)
async def backlog(world: World) -> None:
    service, name, most = world.service, world.name(topics.PLAIN), 0.0
    world.to_database.cut()
    await world.ready(service, because="database")
    await world.traffic.quiet()
    made: dict[int, list[Sent]] = {number: [] for number in range(PARTITIONS)}
    starts = await kafka.end_offsets(world.stand.stack.kafka, name, PARTITIONS)
    async with kafka.producer(world.stand.stack.kafka, max_batch_size=512 * 1024) as client:
        for number in range(BACKLOG):
            sent = Sent(topics.PLAIN.name, f"{world.suffix}-b-{number}", "row", None, 0, None, number % PARTITIONS)
            value = messages.encode({"identity": sent.identity, "timestamp": "2026-03-01T12:00:00+00:00"})
            await client.send(name, value, partition=sent.partition)
            made[sent.partition].append(sent)
            if number % 20_000 == 0:
                most = max(most, world.memory_mib(service))
        await client.flush()
    ends = await kafka.end_offsets(world.stand.stack.kafka, name, PARTITIONS)
    for partition, them in made.items():
        assert ends[partition] - starts[partition] == len(them)
        for offset, sent in enumerate(them, starts[partition]):
            sent.offset = offset
        world.traffic.sent.extend(them)

    async def waits() -> bool:
        nonlocal most
        most = max(most, world.memory_mib(service))
        return await world.healthy()

    await world.lasting(30, waits)
    down = most
    world.to_database.heal()
    world.over()
    target = sum(ends.values())

    async def position() -> int:
        await waits()
        return sum((await world.ledger(topics.PLAIN)).values())

    await eventually(position, until=lambda at: at >= target, within_s=900, every_s=1)
    world.notes.append(f"RSS at most {down:.0f} MiB while down, {most:.0f} MiB while catching up")
    assert most <= MOST_MIB, f"RSS {most:.0f} MiB"


@fault("idle-partitions", "a topic of 2,000 idle partitions beside the busy ones", recovers_within_s=300)
async def idle_partitions(world: World) -> None:
    count = 2_000
    async with kafka.admin(world.stand.stack.kafka) as admin:
        await admin.create_partitions({world.name(topics.IDLE): NewPartitions(count)}, timeout_ms=120_000)
    world.counts[topics.IDLE.name] = count

    async def rows() -> int:
        return len(await world.ledger(topics.IDLE))

    await eventually(rows, until=lambda found: found == count, within_s=300, every_s=1)
    assert await world.healthy()
    world.over()
    world.notes.append(f"RSS {world.memory_mib(world.service):.0f} MiB")
