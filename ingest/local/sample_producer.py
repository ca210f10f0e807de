"""``ingest sample``: produces the stream of :mod:`ingest.local.sample` into the broker of the settings.

For trials: ``compose.yaml`` runs it, and a cluster gets its load from it. Needs no extra; it makes the topics that
are not there.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from ingest.local.errors import LocalStackError
from ingest.local.sample import STEP, SampleMessage, stream
from ingest.local.sample_topics import SHARES
from ingest.settings import KafkaSettings, load_section

PARTITIONS = 6
"""Of a topic that is made here."""
COPIES = 3
"""Of each of its partitions, where there are so many brokers."""
ENDLESS = 10**9
"""Messages; four months at the stream's own pace."""
IN_FLIGHT = 5_000
"""Messages that may wait for the broker's acknowledgement."""
BREATHE_EVERY = 100
"""Messages after which the loop turns: so soon is a signal heard."""


def sample(
    messages: Annotated[
        int | None,
        typer.Option(min=1, help="Produce so many, as fast as the broker takes them, and end.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed makes another stream.")] = 20,
) -> None:
    """Produces a stream like Loom's, for trials: without --messages at its own pace, 100 a second, until stopped.

    About one message in a hundred is bad, and becomes a dead letter.
    """
    options = load_section(KafkaSettings).client_options()
    try:
        produced = asyncio.run(_produce(options, messages, seed))
    except KafkaError as error:
        raise LocalStackError(
            f"Kafka: {options['bootstrap_servers']}: {type(error).__name__}: {error}; "
            "is LOOM_KAFKA_BOOTSTRAP_SERVERS right?"
        ) from error
    typer.echo(f"{produced:,} messages produced, seed {seed}")


async def _produce(options: dict[str, Any], messages: int | None, seed: int) -> int:
    """Returns how many the broker has acknowledged. Raises KafkaError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):  # the first process of a container has no default for them
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await _create_topics(options)
    producer = AIOKafkaProducer(**options, acks="all", enable_idempotence=True, linger_ms=20)
    try:
        await producer.start()
        now = datetime.now(UTC)
        if messages is None:
            # Its times begin now, and each message is due at its own.
            return await _send(producer, stream(ENDLESS, seed=seed, now=now + ENDLESS * STEP), stop, paced=True)
        return await _send(producer, stream(messages, seed=seed, now=now), stop, paced=False)
    finally:
        await producer.stop()


async def _send(producer: Any, messages: Any, stop: asyncio.Event, *, paced: bool) -> int:
    waiting: deque[Awaitable[Any]] = deque()
    began = time.monotonic()
    sent = 0
    message: SampleMessage
    for message in messages:
        if sent % BREATHE_EVERY == 0:
            ahead_s = began + sent * STEP.total_seconds() - time.monotonic() if paced else 0
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), max(ahead_s, 0.001))
            if stop.is_set():
                break
        headers = list(message.headers)
        waiting.append(await producer.send(message.topic, message.value, key=message.key, headers=headers))
        sent += 1
        while len(waiting) > IN_FLIGHT:
            await waiting.popleft()
    await producer.flush()
    await asyncio.gather(*waiting)
    return sent


async def _create_topics(options: dict[str, Any]) -> None:
    admin: Any = AIOKafkaAdminClient(**options)
    try:
        await admin.start()
        there = await admin.list_topics()
        copies = min(COPIES, len((await admin.describe_cluster())["brokers"]))
        made = await admin.create_topics([NewTopic(name, PARTITIONS, copies) for name in SHARES if name not in there])
        for name, code, *_ in made.topic_errors:
            if code not in (0, TopicAlreadyExistsError.errno):  # another one made it meanwhile
                raise LocalStackError(f"Kafka: can't make topic {name}: {for_code(code).__name__}")
    finally:
        await admin.close()
