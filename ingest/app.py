"""The service as a process: waits for its database and broker, runs the pipeline, stops when asked.

Exit codes: 0 stopped as asked, 2 settings, 3 schema, 4 fatal (see ``ingest.errors``).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine
from tenacity import RetryCallState

from ingest import ledger
from ingest.database import Failure, classify, create_engine, describe
from ingest.errors import EXIT_STOPPED, FatalError, IngestError, SchemaError, TransientError
from ingest.http import Health, HttpServer
from ingest.metrics import Metrics
from ingest.pipeline import Pipeline
from ingest.reaching import NoBrokerError
from ingest.retry import retrying
from ingest.schema import check_schema
from ingest.settings import Settings, unknown_variables
from ingest.topics import Topic, load_topics

log = structlog.get_logger(__name__)

Result = TypeVar("Result")
LEAVE_GROUP_S = 3.0
LOOP_STUCK_S = 30.0
"""The event loop that has not turned for so long is not alive."""


GC_THRESHOLD = 50_000
"""New objects in hand before the collector looks for cycles. Batches are no garbage, and hold none: looking at each
message as often as Python does by default takes a seventh of the CPU."""


class Stopped(Exception):
    """The service was asked to stop while it waited."""


class App:
    """One process of the service.

    ``wait_for_schema``: a schema that is missing or too old is waited for, as a database is that does not answer.
    Without, it raises SchemaError.
    """

    def __init__(self, settings: Settings, *, wait_for_schema: bool = False) -> None:
        self._settings = settings
        self._wait_for_schema = wait_for_schema
        self._metrics = Metrics()
        self._stop = asyncio.Event()
        self._stop_at_once = asyncio.Event()
        self._waiting_for: str | None = "starting"
        self._pipeline: Pipeline | None = None
        self._turned_at = time.monotonic()

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT; returns the exit code. Raises FatalError."""
        for line in unknown_variables():
            log.warning(line)
        topics = load_topics(self._settings.service.topics)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled)
        server = HttpServer(
            self._settings.service.http_host,
            self._settings.service.http_port,
            registry=self._metrics.registry,
            healthz=self._healthz,
            readyz=self._readyz,
        )
        server.start()
        log.info("serving /metrics, /healthz, /readyz", port=server.port)
        client_id = f"loom-ingest-kafka-{socket.gethostname()}-{os.getpid()}"
        engine = create_engine(self._settings.database, application_name=client_id[:63])
        turning = asyncio.create_task(self._turn())
        try:
            await self._serve(engine, topics, client_id)
        except Stopped:
            log.info("stopped before it began")
        finally:
            turning.cancel()
            server.stop()
            # A connection that hangs must not keep the process.
            await _at_most(2, engine.dispose())
        return EXIT_STOPPED

    async def _serve(self, engine: AsyncEngine, topics: dict[str, Topic], client_id: str) -> None:
        database_id = await self._until_answered(
            "database", "is LOOM_DATABASE_URL right?", lambda: _open_database(engine, topics)
        )
        pipeline = Pipeline(
            self._settings,
            topics,
            engine=engine,
            database_id=database_id,
            metrics=self._metrics,
            client_id=client_id,
        )
        try:
            await self._until_answered("broker", "is LOOM_KAFKA_BOOTSTRAP_SERVERS right?", pipeline.start)
            self._pipeline, self._waiting_for = pipeline, None
            gc.collect()
            gc.set_threshold(GC_THRESHOLD)
            gc.freeze()  # modules, contracts and pools stay: no collection has to look at them again
            log.info("running", topics=sorted(topics), group=self._settings.kafka.group_id, database=database_id)
            running = asyncio.create_task(pipeline.run(self._stop))
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if not running.done():
                await self._drain(running)
            if running.done() and not running.cancelled():
                _raise_first(running)
        finally:
            await pipeline.close(within_s=1 if self._stop_at_once.is_set() else LEAVE_GROUP_S)
        log.info("stopped")

    async def _drain(self, running: asyncio.Task[None]) -> None:
        grace = self._settings.service.shutdown_grace
        log.info("stopping: writing what was read", at_most_s=grace)
        at_once = asyncio.create_task(self._stop_at_once.wait())
        await asyncio.wait([running, at_once], timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if not running.done():
            log.warning("stopping at once; what is not written yet is read again by whoever comes next")
            running.cancel()
            await asyncio.wait([running], timeout=2)

    async def _until_answered(self, what: str, hint: str, work: Callable[[], Awaitable[Result]]) -> Result:
        """Tries until it succeeds, saying once what it waits for. Raises Stopped when asked to stop meanwhile."""
        self._waiting_for = f"waiting for the {what}"
        said: set[str] = set()

        def before_sleep(state: RetryCallState) -> None:
            error = state.outcome.exception() if state.outcome else None
            reason = describe(error) if error else ""
            awaited = "schema" if isinstance(error, SchemaError) else what
            self._waiting_for = f"waiting for the {awaited}: {reason}"
            if awaited in said:
                return
            said.add(awaited)
            if isinstance(error, SchemaError):
                log.warning("the schema is missing or too old; waiting until it fits", reason=reason)
            else:
                log.warning("no answer yet; trying again until there is one", of=what, reason=reason, hint=hint)

        async def sleep(seconds: float) -> None:
            await _at_most(seconds, self._stop.wait())
            if self._stop.is_set():
                raise Stopped

        def retry_if(error: BaseException) -> bool:
            if isinstance(error, SchemaError):
                return self._wait_for_schema
            return isinstance(error, Exception) and classify(error) is Failure.TRANSIENT

        async def once() -> Result:
            try:
                return await work()
            except KafkaError as error:
                if isinstance(error, NoBrokerError) and error.refused:
                    raise FatalError(f"{what}: {error}") from error
                raise TransientError(str(error)) from error

        try:
            tries = retrying(retry_if=retry_if, before_sleep=before_sleep, sleep=sleep)
            answered = asyncio.Event()
            attempt: asyncio.Future[Result] = asyncio.ensure_future(tries(once))
            attempt.add_done_callback(lambda _: answered.set())
            stopping = asyncio.create_task(self._stop.wait())
            stopping.add_done_callback(lambda _: answered.set())
            await answered.wait()
            stopping.cancel()
            if not attempt.done():
                attempt.cancel()
                await asyncio.wait([attempt], timeout=2)
                raise Stopped
            return attempt.result()
        except (IngestError, Stopped):
            raise
        except Exception as error:  # whatever it is, nobody but a person can help now
            raise FatalError(f"{what}: {describe(error)}; {hint}") from error

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._stop_at_once.set()
        self._stop.set()

    async def _turn(self) -> None:
        while True:
            self._turned_at = time.monotonic()
            await asyncio.sleep(1)

    # Called in the HTTP server's thread: these only read.

    def _healthz(self) -> Health:
        stuck = time.monotonic() - self._turned_at
        if stuck > LOOP_STUCK_S:
            return Health(False, [f"the event loop has not turned for {stuck:.0f} s"])
        broken = self._pipeline.unreadable_for_too_long() if self._pipeline else None
        return Health(broken is None, [broken] if broken else [])

    def _readyz(self) -> Health:
        if self._stop.is_set():
            return Health(False, ["stopping"])
        if self._pipeline is None:
            return Health(False, [self._waiting_for or "starting"])
        troubles = self._pipeline.troubles()
        reasons = []
        if self._pipeline.broker_problem:
            reasons.append(f"broker: {self._pipeline.broker_problem}")
        if self._pipeline.database_problem:
            reasons.append(f"database: {self._pipeline.database_problem}")
        if self._pipeline.group_problem:
            reasons.append(f"group: {self._pipeline.group_problem}")
        if not self._pipeline.joined:
            reasons.append("the group has not assigned partitions yet")
        return Health(not reasons, reasons, troubles)


async def _open_database(engine: AsyncEngine, topics: dict[str, Topic]) -> str:
    await check_schema(engine, topics.values())
    async with engine.connect() as connection:
        return await ledger.database_id(connection)


async def _at_most(seconds: float, work: Awaitable[object]) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except TimeoutError:
        return


def _raise_first(task: asyncio.Task[None]) -> None:
    """Raises what ended the pipeline: the first of its tasks' failures."""
    error = task.exception()
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is None:
        return
    if isinstance(error, IngestError):
        raise error
    if classify(error) is Failure.FATAL:
        raise FatalError(f"database: {describe(error)}") from error
    raise error
