"""The engine, made in one place, and the one table that says what a failure of the database means.

Promise kept here: a transient failure never becomes a dead letter. What is transient is decided by the exception's
kind and SQLSTATE, never by the text of a message.
"""

from __future__ import annotations

import enum
import re
import socket
from collections.abc import Iterator
from typing import Any

import asyncpg
from sqlalchemy import event
from sqlalchemy import exc as sa_exc
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from ingest.errors import FatalError, IngestError, LaneError, RecordError, TransientError
from ingest.handshake import refused_certificate
from ingest.settings import DatabaseSettings

COMMAND_TIMEOUT_S = 60
"""A statement that takes longer is given up by the client."""
CONTROL_TIMEOUT_S = 20
"""BEGIN, COMMIT and ROLLBACK: they do little, so an answer that takes longer is not coming."""

SERVER_SETTINGS = {
    "jit": "off",  # batches are short statements: compiling them costs more than it saves
    "synchronous_commit": "off",  # safe because offsets move in the same transaction: see the ledger
    # A backend whose client vanished must not hold the ledger's lock for hours. Seconds, seconds, count, ms, ms.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "30000",
    "idle_in_transaction_session_timeout": "15000",
}
SOCKET_OPTIONS = (
    # The same for a server that has vanished. Not every platform has all of them.
    (socket.SOL_SOCKET, "SO_KEEPALIVE", 1),
    (socket.IPPROTO_TCP, "TCP_KEEPIDLE", 15),
    (socket.IPPROTO_TCP, "TCP_KEEPINTVL", 5),
    (socket.IPPROTO_TCP, "TCP_KEEPCNT", 3),
    (socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", 30_000),
)

_SET_LOCK_TIMEOUT = """
SELECT set_config(
    'lock_timeout', CASE setting::int WHEN 0 THEN '20000' ELSE greatest(setting::int / 2, 1)::text END, false
)
FROM pg_settings WHERE name = 'statement_timeout'
"""
"""Milliseconds; below the role's or database's own statement_timeout. Waiting for somebody's lock must end as that
(55P03), not as a timeout (57014) for which a message might be blamed."""


class Failure(enum.Enum):
    """What has to happen after a failure."""

    TRANSIENT = "transient"
    """Try the whole transaction again, without bound. Never a dead letter."""
    RECORD = "record"
    """Find the message at fault; it becomes a dead letter."""
    LANE = "lane"
    """Stop this topic, say so, try again later. The others go on."""
    FATAL = "fatal"
    """End the process; nothing has moved."""


# SQLSTATE → failure: the exact code first, then its class (the first two characters). Source of the codes: appendix
# "PostgreSQL Error Codes". Everything that stands nowhere here is LANE: unknown is not assumed to be harmless.
_BY_SQLSTATE: dict[str, Failure] = {
    "55P03": Failure.TRANSIENT,  # lock_not_available
    "57014": Failure.TRANSIENT,  # query_canceled: statement timeout; may be the batch's own fault
    "57P01": Failure.TRANSIENT,  # admin_shutdown
    "57P02": Failure.TRANSIENT,  # crash_shutdown
    "57P03": Failure.TRANSIENT,  # cannot_connect_now
    "57P04": Failure.TRANSIENT,  # database_dropped: by a restore, perhaps; a missing one is 3D
    "57P05": Failure.TRANSIENT,  # idle_session_timeout
    "25006": Failure.TRANSIENT,  # read_only_sql_transaction: after a failover
    "25P03": Failure.TRANSIENT,  # idle_in_transaction_session_timeout: this process was frozen
    "25P04": Failure.TRANSIENT,  # transaction_timeout
    "53400": Failure.RECORD,  # configuration_limit_exceeded: TimescaleDB's limit of rows that a statement decompresses
    "44000": Failure.RECORD,  # with_check_option_violation: a view refuses the row
    "P0001": Failure.RECORD,  # raise_exception: a trigger refuses the row
    "54000": Failure.RECORD,  # program_limit_exceeded: an indexed text or a tsvector that is too long
}
_BY_CLASS: dict[str, Failure] = {
    "08": Failure.TRANSIENT,  # connection exception
    "40": Failure.TRANSIENT,  # transaction rollback: deadlock, serialization
    "53": Failure.TRANSIENT,  # insufficient resources: disk full, too many connections
    "21": Failure.RECORD,  # cardinality violation
    "22": Failure.RECORD,  # data exception
    "23": Failure.RECORD,  # integrity constraint violation
    "42": Failure.LANE,  # syntax error or access rule violation: the schema doesn't fit
    "28": Failure.FATAL,  # invalid authorization
    "3D": Failure.FATAL,  # invalid catalog name: no such database
}
RECORD_SQLSTATES = tuple(code for code, failure in _BY_SQLSTATE.items() if failure is Failure.RECORD)
RECORD_CLASSES = tuple(code for code, failure in _BY_CLASS.items() if failure is Failure.RECORD)
"""What refuses a row, for the server to tell apart: no code of these classes means anything else."""
SPLITTABLE = frozenset({"57014", "53200"})
"""Transient by their code, but a batch, or one message in it, may be the cause: a statement timeout, out of memory."""

READ_ONLY = "25006"

_ERRORS: dict[Failure, type[IngestError]] = {
    Failure.TRANSIENT: TransientError,
    Failure.RECORD: RecordError,
    Failure.LANE: LaneError,
    Failure.FATAL: FatalError,
}


def classify(error: BaseException) -> Failure:
    """What a failure means: from SQLAlchemy, from asyncpg directly, from the socket, or from this project.

    >>> classify(ConnectionRefusedError())
    <Failure.TRANSIENT: 'transient'>
    """
    for failure, kind in _ERRORS.items():
        if isinstance(error, kind):
            return failure
    if isinstance(error, sa_exc.DBAPIError) and error.connection_invalidated:
        return Failure.TRANSIENT
    if _refused_certificate_of(error):
        return Failure.FATAL  # as a password would be: the server answers, and one of the two says no
    if isinstance(error, OSError | TimeoutError | sa_exc.TimeoutError):
        return Failure.TRANSIENT
    for link in _chain(error):
        if isinstance(link, asyncpg.InvalidCachedStatementError | asyncpg.OutdatedSchemaCacheError):
            return Failure.TRANSIENT  # the schema changed under a prepared statement; the next one is prepared anew
        if isinstance(link, asyncpg.TargetServerAttributeNotMatched):
            return Failure.TRANSIENT  # several hosts, none of them the primary just now
        if isinstance(link, asyncpg.InternalClientError):
            return Failure.TRANSIENT  # the server ended the connection between two statements, and said why
        if isinstance(link, asyncpg.ClientConfigurationError):
            return Failure.FATAL
    state = sqlstate_of(error)
    if state is None:
        return Failure.LANE
    return _BY_SQLSTATE.get(state) or _BY_CLASS.get(state[:2]) or Failure.LANE


def sqlstate_of(error: BaseException) -> str | None:
    """The five-character SQLSTATE that PostgreSQL or asyncpg gave, if any."""
    for link in _chain(error):
        state = getattr(link, "sqlstate", None)
        if isinstance(state, str):
            return state
    return None


_CHUNK_PREFIX = re.compile(r"^(\d+_){1,2}|^_hyper_\d+_\d+_chunk_")


def constraint_of(error: BaseException) -> str | None:
    """The violated constraint's name, as its table has it. TimescaleDB gives each chunk's copy of a key a name of its
    own, such as ``63_readings_key`` or, for a unique index, ``_hyper_1_63_chunk_readings_key``."""
    for link in _chain(error):
        name = getattr(link, "constraint_name", None)
        if isinstance(name, str):
            in_chunk = getattr(link, "schema_name", None) == "_timescaledb_internal"
            return _CHUNK_PREFIX.sub("", name, count=1) if in_chunk else name
    return None


def describe(error: BaseException) -> str:
    """One line for a log or a dead letter: the driver's message, without the statement, its parameters, and the
    server's DETAIL, which quotes the row."""
    *_, innermost = _chain(error)
    if refused := _refused_certificate_of(error):
        return f"{refused}; see sslmode, sslrootcert, sslcert"
    message = innermost.message if isinstance(innermost, asyncpg.PostgresError) else None
    text = " ".join((message or str(innermost)).split()) or type(innermost).__name__
    state = sqlstate_of(error)
    return f"{text} (SQLSTATE {state})" if state else text


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The exception, what SQLAlchemy wrapped (``orig``), and what that was raised from (asyncpg's own)."""
    yield error
    original = getattr(error, "orig", None)
    if isinstance(original, BaseException):
        yield original
        if original.__cause__ is not None:
            yield original.__cause__


def _refused_certificate_of(error: BaseException) -> str | None:
    """As :func:`refused_certificate`. By TLS 1.3 a client is refused when its side of the handshake is done: then the
    alert is the cause of a connection that was lost."""
    *_, innermost = _chain(error)
    link: BaseException | None = innermost
    while link is not None:
        if refused := refused_certificate(link):
            return refused
        link = link.__cause__
    return None


class _Connection(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    """A connection that hangs is given up within :data:`CONTROL_TIMEOUT_S`."""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        # Without arguments: what begins and ends transactions. Statements come as prepared ones.
        if timeout is None and not args:
            timeout = CONTROL_TIMEOUT_S
        try:
            status: str = await super().execute(query, *args, timeout=timeout)
        except TimeoutError:
            self.terminate()  # a polite end would wait for the same answer
            raise
        return status

    async def _prepare(self, query: str, *, use_cache: bool = False, **options: Any) -> Any:
        # Only COPY asks with the cache, for the types of its columns. It never executes that statement, so nobody would
        # tell it that a migration has changed a type, and the server would take one type's bytes for another's.
        return await super()._prepare(query, use_cache=False, **options)

    def watch_the_peer(self) -> None:
        ours = self._transport.get_extra_info("socket")
        if ours.family != socket.AF_UNIX:
            for level, name, value in SOCKET_OPTIONS:
                if hasattr(socket, name):
                    ours.setsockopt(level, getattr(socket, name), value)


def create_engine(settings: DatabaseSettings, *, application_name: str) -> AsyncEngine:
    """The service's engine: a pool that opens connections as they are needed, up to ``max_pool_size``.

    ``application_name`` should contain ``kafka``: operators find the pool in ``pg_stat_activity`` by that.
    """
    url = settings.url.get_secret_value()

    async def connect() -> asyncpg.Connection:
        # asyncpg reads the URL as libpq does: sslmode and its files, several hosts, target_session_attrs.
        connection = await asyncpg.connect(
            url,
            timeout=10,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings={**SERVER_SETTINGS, "application_name": application_name},
            connection_class=_Connection,
        )
        connection.watch_the_peer()
        await connection.execute(_SET_LOCK_TIMEOUT)
        return connection

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=settings.min_pool_size,
        max_overflow=settings.max_pool_size - settings.min_pool_size,
        pool_timeout=30,
        # A temporary table keeps the age of the oldest transaction that VACUUM must care for, until its session ends.
        pool_recycle=3600,
        pool_use_lifo=True,
        json_serializer=_json_text,
        hide_parameters=True,  # an exception's text must hold no message bodies
    )
    dialect: Any = engine.dialect
    dialect.setup_asyncpg_json_codec = dialect.setup_asyncpg_jsonb_codec = _keep_codec
    event.listen(engine.sync_engine, "handle_error", _give_up)
    return engine


def _give_up(context: ExceptionContext) -> None:
    """A connection that does not answer is not used again, and the pool's others are renewed: they went the same way,
    and trying each in turn would take as long again. So are those to a server that is no longer the primary."""
    error = context.original_exception
    if isinstance(error, TimeoutError | asyncpg.InternalClientError) or sqlstate_of(error) == READ_ONLY:
        context.is_disconnect = context.invalidate_pool_on_disconnect = True


def create_plain_engine(url: str, *, application_name: str) -> AsyncEngine:
    """An engine without a pool for migrations and commands: one connection, opened for each use."""

    async def connect(**_: Any) -> asyncpg.Connection:
        return await asyncpg.connect(url, timeout=10, server_settings={"application_name": application_name})

    return create_async_engine(
        "postgresql+asyncpg://",
        # TimescaleDB takes its options out of a prepared ALTER TABLE … SET: executed again, it would set nothing.
        connect_args={"async_creator_fn": connect, "prepared_statement_cache_size": 0},
        poolclass=NullPool,
        hide_parameters=True,
    )


def _json_text(value: Any) -> str:
    """Contracts encode JSON once, when they validate it; here it only passes through."""
    if not isinstance(value, str):
        raise TypeError(f"a jsonb column takes JSON text, not {type(value).__name__}")
    return value


async def _keep_codec(_: Any) -> None:
    """In place of SQLAlchemy's own codecs for JSON: the driver's take a text as it is, without a call of Python
    for each value. The service reads no JSON; a column of it would come as text."""
