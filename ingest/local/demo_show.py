"""The demo from beginning to end: stack, tables, topics, service, stream, account; then all is stopped."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
from aiokafka.errors import KafkaError
from sqlalchemy.exc import SQLAlchemyError

from ingest.database import create_plain_engine, describe
from ingest.errors import IngestError
from ingest.local.demo_account import Examples, Expected, TopicAccount, examples, read_ledger, settle
from ingest.local.demo_broker import PARTITIONS, DemoBroker, Offsets
from ingest.local.demo_database import migrate, own_database
from ingest.local.demo_interrupt import Interrupts
from ingest.local.demo_screen import Progress, Screen
from ingest.local.demo_service import Counters, DemoService
from ingest.local.errors import LocalStackError
from ingest.local.process import own_environment
from ingest.local.sample import SampleMessage, stream
from ingest.local.sample_topics import EMOTIONS, GPS, LIKES, SHARES
from ingest.local.stack import BY_ENVIRONMENT, Stack, running_stack
from ingest.settings import KafkaSettings, load_section
from ingest.topics import load_topics

LOOK_EVERY_S = 0.4
STALL_S = 60.0
"""A service that writes nothing for so long while there is something to write has failed."""
COUNTERS_S = 3.0
"""What ``/metrics`` may be behind the ledger: a counter is added to after its transaction."""

TUNING = ("LOOM_KAFKA_BATCH_", "LOOM_KAFKA_MAX_", "LOOM_KAFKA_FETCH_", "LOOM_BATCH_", "LOOM_DB_M")
"""Settings of the caller's that the demo's service gets, too; the others would lead it elsewhere."""
ACCESS = ("LOOM_KAFKA_SECURITY_", "LOOM_KAFKA_SASL_", "LOOM_KAFKA_SSL_")
"""And these, where the environment gives the broker."""


def show(messages: int, seed: int, *, screen: Screen, interrupts: Interrupts) -> bool:
    """Run the demo; whether every account closes. Nothing it started is left, however it ends.

    Raises:
        LocalStackError: a part can't be had, started or reached, or the service writes no more. The service's log
            is kept then, if it has one.
        KeyboardInterrupt: it was asked to stop.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what its errors mean is said below
    screen.title()
    directory = Path(tempfile.mkdtemp(prefix="loom-demo-"))
    service_log = directory / "service"
    keep_log = False
    try:
        with ExitStack() as everything:
            stack = everything.enter_context(
                running_stack(directory / "stack", say=screen.step, console=screen.console)
            )
            try:
                demo = _Demo(stack, service_log, screen=screen, interrupts=interrupts)
                closes = demo.run(everything, messages, seed)
            finally:
                interrupts.hold()  # what the blocks do when they are left is not to be interrupted
        interrupts.check()
        return closes
    except IngestError:
        keep_log = service_log.exists()
        raise
    finally:
        interrupts.hold()
        if keep_log:
            shutil.rmtree(directory / "stack", ignore_errors=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


class _Demo:
    """The part for which a stack is there."""

    def __init__(self, stack: Stack, service_directory: Path, *, screen: Screen, interrupts: Interrupts) -> None:
        self._stack = stack
        self._service_directory = service_directory
        self._screen = screen
        self._interrupts = interrupts
        self._name = f"loom-demo-{secrets.token_hex(4)}"
        """Of its database and its consumer group."""
        self._given = stack.kafka_served_by == BY_ENVIRONMENT
        options = load_section(KafkaSettings).client_options() if self._given else {"bootstrap_servers": stack.kafka}
        self._broker = DemoBroker(options, SHARES)
        self._expected = {topic: Expected() for topic in SHARES}
        self._counters: Mapping[str, Counters] = {}
        self._url = ""

    def run(self, everything: ExitStack, messages: int, seed: int) -> bool:
        say = self._screen.step
        self._url = everything.enter_context(own_database(self._stack.database_url, self._name))
        environment = self._environment()
        began = time.monotonic()
        migrate(environment)
        say(f"Tables: made by `alembic upgrade head` in {time.monotonic() - began:.1f} s")
        self._run(self._broker.create_topics)
        if self._given:
            everything.callback(lambda: asyncio.run(self._broker.delete_topics()))
        say(f"Topics: {len(SHARES)} with {PARTITIONS} partitions each")
        service = DemoService(self._service_directory, environment)
        everything.callback(service.stop)
        began = time.monotonic()
        with self._interrupts.later():
            service.launch()
        service.wait_until_ready()
        say(f"Service: `ingest run` is ready after {time.monotonic() - began:.1f} s")
        say(f"Stream: {messages:,} messages, seed {seed}: some bad, some late, some delivered again")
        self._run(lambda: self._stream(service, messages, seed))
        self._say_stopped(service)
        accounts, found = self._run(self._settle)
        self._screen.account(accounts)
        self._screen.examples(found)
        self._screen.next_steps(_next_steps())
        return not any(each.problems for each in accounts)

    def _say_stopped(self, service: DemoService) -> None:
        began = time.monotonic()
        if not service.stop():
            raise LocalStackError(f"Service: it did not stop as asked by SIGTERM. {service.last_words()}")
        self._screen.blank()
        self._screen.step(f"Service: stopped by SIGTERM in {time.monotonic() - began:.1f} s")

    async def _stream(self, service: DemoService, messages: int, seed: int) -> None:
        """Produces and watches until all is accounted."""
        progress = Progress(messages)

        def sent(message: SampleMessage) -> None:
            progress.produced += 1
            self._expected[message.topic].add(message)

        sample = stream(messages, seed=seed, now=datetime.now(UTC))
        async with self._broker.offsets() as offsets:
            producing = asyncio.create_task(self._broker.produce(sample, sent))
            try:
                with self._screen.live(progress):
                    await self._watch(service, offsets, progress, producing)
            finally:
                producing.cancel()
                await asyncio.gather(producing, return_exceptions=True)

    async def _watch(
        self, service: DemoService, offsets: Offsets, progress: Progress, producing: asyncio.Task[None]
    ) -> None:
        moved_at, stood = time.monotonic(), -1
        reached_at: float | None = None
        while True:
            service.check_alive()
            all_produced = producing.done()
            if all_produced:
                producing.result()
            now = time.monotonic()
            counters = await asyncio.to_thread(_counters, service, self._counters)
            lag, stands = await self._lag(offsets)
            progress.observe(now, counters, lag)
            self._counters = counters
            self._screen.update(progress)
            if stands != stood or not any(lag.values()):
                moved_at, stood = now, stands
            if now - moved_at > STALL_S:
                raise LocalStackError(
                    f"Service: nothing has moved for {STALL_S:.0f} s: {progress.line()}. {service.last_words()}"
                )
            if all_produced and not any(lag.values()):
                reached_at = reached_at or now
                if progress.accounted >= progress.total or now - reached_at > COUNTERS_S:
                    return
            await asyncio.sleep(LOOK_EVERY_S)

    async def _lag(self, offsets: Offsets) -> tuple[dict[str, int], int]:
        """Messages between ledger and broker's end by topic, and the sum of the ledger's offsets.

        From where both stand: ``/metrics`` sample theirs every few seconds only.
        """
        engine = create_plain_engine(self._url, application_name="loom-ingest demo")
        async with engine.connect() as connection:
            written = await read_ledger(connection, self._name)
        lag = dict.fromkeys(SHARES, 0)
        for (topic, partition), end in (await offsets.ends()).items():
            lag[topic] += max(0, end - written.next_offsets.get((topic, partition), 0))
        return lag, sum(written.next_offsets.values())

    async def _settle(self) -> tuple[list[TopicAccount], Examples]:
        topics = load_topics(["ingest.topics"])
        async with self._broker.offsets() as offsets:
            in_kafka = await offsets.messages()
        engine = create_plain_engine(self._url, application_name="loom-ingest demo")
        async with engine.connect() as connection:
            accounts = [
                await settle(
                    connection,
                    self._name,
                    topics[name],
                    in_kafka=in_kafka[name],
                    expected=self._expected[name],
                    counted=self._counters.get(name, Counters()),
                )
                for name in SHARES
            ]
            return accounts, await examples(connection, topics, (GPS, EMOTIONS, LIKES))

    def _environment(self) -> dict[str, str]:
        kept = (*TUNING, *ACCESS) if self._given else TUNING
        ours = {
            name: value
            for name, value in own_environment().items()
            if not name.startswith("LOOM_") or name.startswith(kept)
        }
        return {
            **ours,
            **self._stack.environment(),
            "LOOM_DATABASE_URL": self._url,
            "LOOM_KAFKA_GROUP_ID": self._name,
        }

    def _run(self, work: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Runs it to its end; what the broker and the database raise becomes one line."""
        try:
            return self._interrupts.run(work)
        except KafkaError as error:
            raise LocalStackError(f"Kafka: {type(error).__name__}: {error}") from error
        except (OSError, SQLAlchemyError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise LocalStackError(f"Database: {describe(error)}") from error


def _counters(service: DemoService, before: Mapping[str, Counters]) -> Mapping[str, Counters]:
    """A busy service may be late with an answer: then the last one stands."""
    try:
        return service.counters()
    except OSError:
        return before


def _next_steps() -> list[tuple[str, str]]:
    programs = Path(sys.executable).parent
    there = shutil.which("ingest") == str(programs / "ingest")
    activate = [] if there else [(f". {os.path.relpath(programs)}/activate", "so that the shell finds these programs")]
    return [
        *activate,
        ("ingest stack up", "a Kafka and a PostgreSQL that stay"),
        ('eval "$(ingest stack env)"', "use them in this shell"),
        ("alembic upgrade head && ingest run", "the service, as here"),
        ("ingest dead-letters list", "what could not be written, and why"),
        ("docs/add-a-topic.md", "your own topic: one file, one revision"),
    ]
