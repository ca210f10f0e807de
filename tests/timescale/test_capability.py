"""What is found out about a database, in words that say what to do.

On a plain PostgreSQL whose catalog is made to say so, because no server here is old or Apache-licensed.
"""

from __future__ import annotations

import pytest
from sqlalchemy import Connection, text

from ingest.errors import FatalError
from ingest.timescale.capability import EVERYTHING, Capability, capability_of
from tests.support.declared import compared, on_database
from tests.timescale.doors import Doors, metadata_of

OLD = "its TimescaleDB is 2.17.2, and columnstore policies need 2.18; update the extension"
APACHE = "its TimescaleDB is the Apache-licensed build (timescaledb.license), without community features"


def pretend(connection: Connection, version: str, licence: str) -> None:
    """Until the transaction ends."""
    connection.execute(
        text(
            "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion)"
            " VALUES (99999, 'timescaledb', 10, 11, false, :version)"
        ),
        {"version": version},
    )
    connection.execute(text("SELECT set_config('timescaledb.license', :licence, true)"), {"licence": licence})


@pytest.mark.parametrize(
    ("version", "licence", "expected"),
    [
        ("2.17.2", "timescale", Capability(False, False, OLD)),
        ("2.18.0", "timescale", EVERYTHING),
        ("2.23.0-dev", "timescale", EVERYTHING),
        ("3.0", "timescale", EVERYTHING),
        ("2.29.2", "apache", Capability(True, False, APACHE)),
        ("2.9.3", "apache", Capability(False, False, OLD.replace("2.17.2", "2.9.3"))),
    ],
)
def test_an_old_version_and_the_apache_licence_are_told_apart(
    empty_database_url: str, version: str, licence: str, expected: Capability
) -> None:
    def work(connection: Connection) -> None:
        pretend(connection, version, licence)
        assert capability_of(connection) == expected

    on_database(empty_database_url, work)


@pytest.mark.parametrize("create", [True, False])
def test_a_server_without_timescaledb_is_asked_nothing_that_breaks_the_connection(
    empty_database_url: str, create: bool
) -> None:
    def work(connection: Connection) -> None:
        found = capability_of(connection, create=create)
        assert found == Capability(False, False, "the server has no TimescaleDB; install it")
        assert connection.scalar(text("SELECT 1")) == 1

    on_database(empty_database_url, work)


def test_the_first_declaration_that_cannot_be_kept_is_named(empty_database_url: str) -> None:
    def work(connection: Connection) -> None:
        with pytest.raises(FatalError) as refused:
            compared(connection, metadata_of(Doors()), "required")
        assert str(refused.value) == (
            "hypertable doors can't be kept: the server has no TimescaleDB; install it. "
            "Or set LOOM_TIMESCALE=auto to have ordinary tables instead"
        )

    on_database(empty_database_url, work)


def test_the_real_one_has_everything(timescale_url: str) -> None:
    assert on_database(timescale_url, capability_of) == EVERYTHING
