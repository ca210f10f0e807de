"""A steady, seeded stream to all topics, which remembers what must become of every message it sent."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from aiokafka import AIOKafkaProducer

from tests.acceptance.faults import topics
from tests.support import messages

Fate = Literal["row", "letter"]
KEYS = 150
"""Keys of the topic whose newest message wins."""
REPEATED = 0.05
"""Share of messages to the first-wins topic that repeat a key."""
SEND_WITHIN_MS = 300_000
"""How long a message may wait for a broker that is gone."""


@dataclass(slots=True, eq=False)
class Sent:
    """One message, and what must become of it."""

    topic: str
    """The topic's plain name, without the world's suffix."""
    identity: str
    fate: Fate
    key: str | None = None
    second: int = 0
    """Its own time, as seconds after :data:`tests.support.messages.NOW`."""
    future: asyncio.Future[Any] | None = None
    partition: int = -1
    offset: int = -1


@dataclass
class Traffic:
    """Messages to the four topics, a *round* at a time: one to each.

    Args:
        servers: the brokers, reached directly: the faults are the service's, not the producers'.
        suffix: the world's; part of each topic's name and of each identity.
        rate: rounds a second, at most.
        poison: share of messages that must become dead letters: no JSON, against the contract, or refused by a table.
    """

    servers: str
    suffix: str
    randomness: random.Random
    rate: float = 150
    poison: float = 0.0
    without: set[str] = field(default_factory=set)
    """Topics, by their plain names, that get nothing just now."""
    sent: list[Sent] = field(default_factory=list)
    rounds: int = 0
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _flow: asyncio.Event = field(default_factory=asyncio.Event)
    _round_ended: asyncio.Lock = field(default_factory=asyncio.Lock)
    _progress: asyncio.Condition = field(default_factory=asyncio.Condition)
    _task: asyncio.Task[None] | None = None
    _used: set[int] = field(default_factory=set)

    def start(self) -> None:
        self._flow.set()
        self._task = asyncio.create_task(self._run())

    async def more(self, rounds: int, within_s: float = 120) -> None:
        """Waits until so many more rounds are sent."""
        wanted = self.rounds + rounds
        async with self._progress, asyncio.timeout(within_s):
            await self._progress.wait_for(lambda: self.rounds >= wanted or self._ended)
        if self._ended and self._task is not None:
            await self._task  # raises what ended it

    def hold(self) -> None:
        """Sends nothing until :meth:`go_on`."""
        self._flow.clear()

    async def quiet(self, within_s: float = 120) -> None:
        """:meth:`hold`, and waits until the broker has acknowledged every message."""
        self.hold()
        async with asyncio.timeout(within_s), self._round_ended:
            for sent in self.sent:
                await self._acknowledged(sent)

    def go_on(self) -> None:
        self._flow.set()

    async def stop(self, within_s: float = 300) -> None:
        """Ends it, and waits until the broker has acknowledged every message. Does nothing the second time."""
        self._stop.set()
        self._flow.set()
        if self._task is not None:
            async with asyncio.timeout(within_s):
                await self._task

    async def abandon(self) -> None:
        """Ends it without waiting for anything."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await self._task

    @property
    def _ended(self) -> bool:
        return self._task is None or self._task.done()

    def name(self, topic: str) -> str:
        return f"{topic}.{self.suffix}"

    async def _run(self) -> None:
        client = AIOKafkaProducer(
            bootstrap_servers=self.servers,
            linger_ms=5,
            enable_idempotence=True,
            request_timeout_ms=SEND_WITHIN_MS,
            metadata_max_age_ms=2_000,
            max_request_size=8 * 1024 * 1024,
        )
        await client.start()
        try:
            began, before = time.monotonic(), self.rounds
            while not self._stop.is_set():
                if not self._flow.is_set():
                    await self._flow.wait()
                    began, before = time.monotonic(), self.rounds
                    continue
                async with self._round_ended:
                    for sent, value in self._round():
                        if sent.topic in self.without:
                            continue
                        key = sent.key.encode() if sent.key is not None else None
                        sent.future = await client.send(self.name(sent.topic), value, key=key)
                        self.sent.append(sent)
                self.rounds += 1
                async with self._progress:
                    self._progress.notify_all()
                ahead = began + (self.rounds - before) / self.rate - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), max(ahead, 0.0) + 1e-6)
            await client.flush()
            for sent in self.sent:
                await self._acknowledged(sent)
        finally:
            await client.stop()
            async with self._progress:
                self._progress.notify_all()

    @staticmethod
    async def _acknowledged(sent: Sent) -> None:
        if sent.future is not None:
            metadata = await sent.future
            sent.partition, sent.offset, sent.future = metadata.partition, metadata.offset, None

    def _round(self) -> Iterator[tuple[Sent, bytes]]:
        number = self.rounds
        identity = f"{self.suffix}-{number}"
        yield self._maybe_poisoned(Sent(topics.PLAIN.name, identity, "row"), messages.plain(identity, number / 1000))
        yield self._maybe_poisoned(
            Sent(topics.PAIR.name, identity, "row"), messages.plain(identity, number / 1000) | {"amount": number}
        )
        repeats = number > 20 and self.randomness.random() < REPEATED
        device = f"{self.suffix}-{self.randomness.randrange(number)}" if repeats else identity
        yield self._maybe_poisoned(
            Sent(topics.FIRST.name, identity, "row", key=device),
            messages.gps(0, device_id=device, message_id=identity),
        )
        trace, second = f"{self.suffix}-{self.randomness.randrange(KEYS)}", self._second(number)
        yield self._maybe_poisoned(
            Sent(topics.NEWEST.name, identity, "row", key=trace, second=second),
            {"trace_id": trace, "timestamp": messages.at(second), "embedding_model": identity},
        )

    def _second(self, number: int) -> int:
        """A time that no other message has, and that is often before those of messages sent earlier."""
        second = number - self.randomness.randrange(200)
        while second in self._used:
            second += 1
        self._used.add(second)
        return second

    def _maybe_poisoned(self, sent: Sent, body: dict[str, Any]) -> tuple[Sent, bytes]:
        if self.randomness.random() >= self.poison:
            return sent, messages.encode(body)
        sent.fate = "letter"
        kinds = ["decode", "contract", *(["database"] if sent.topic == topics.PAIR.name else [])]
        return sent, poisoned(body, self.randomness.choice(kinds))


def poisoned(body: dict[str, Any], kind: str) -> bytes:
    """The message, spoilt: ``decode``: no JSON; ``contract``: no time zone; ``database``: a CHECK refuses it."""
    if kind == "decode":
        return messages.encode(body)[:-1]
    if kind == "contract":
        return messages.encode(body | {"timestamp": "2026-03-01T12:00:00"})
    return messages.encode(body | {"amount": -1})


def by_partition(sent: list[Sent]) -> dict[tuple[str, int], int]:
    """Messages of each topic (by its plain name) and partition."""
    counted: dict[tuple[str, int], int] = defaultdict(int)
    for each in sent:
        counted[each.topic, each.partition] += 1
    return dict(counted)
