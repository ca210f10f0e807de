"""Runs in the cluster: makes the topics (``topics NAME…``), or produces until its input ends (``stream …``).

Each message carries its number in the stream as ``message_id``, so that rows and dead letters can be compared with what
was produced, one by one. Every hundredth is bad, and has to become a dead letter.
"""

from __future__ import annotations

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

BROKER = "kafka:9092"
PARTITIONS = 6
BAD_EVERY = 100


async def topics(names: list[str]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=BROKER)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in names])
    finally:
        await admin.close()


async def stream(topic: str, first: int, per_second: int, begin: str, fields: str) -> None:
    """Prints, at the end, the number that comes next: all before it are acknowledged by the broker."""
    number, base = first, datetime.fromtimestamp(float(begin), UTC)
    producer = AIOKafkaProducer(bootstrap_servers=BROKER, enable_idempotence=True, acks="all", linger_ms=20)
    await producer.start()
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    sent: list[asyncio.Future[object]] = []
    try:
        while not ended.done():
            for _ in range(max(1, per_second // 10)):
                message = {
                    "schema_version": "v1",
                    "device_id": f"device-{number % PARTITIONS}",
                    "message_id": str(number),
                    "timestamp": (base + timedelta(milliseconds=number)).isoformat(),
                    **json.loads(fields),
                }
                if number % BAD_EVERY == BAD_EVERY - 1:
                    message["device_id"] = 7  # not a text
                value = json.dumps(message).encode()
                sent.append(await producer.send(topic, value, partition=number % PARTITIONS))
                number += 1
            await asyncio.wait([ended], timeout=0.1)
        await producer.flush()
        for each in sent:
            await each  # raises what was not acknowledged
    finally:
        await producer.stop()
    print(number)  # noqa: T201 - the answer


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "topics":
        asyncio.run(topics(arguments))
    else:
        asyncio.run(stream(arguments[0], int(arguments[1]), int(arguments[2]), arguments[3], arguments[4]))
