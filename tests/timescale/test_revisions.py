"""The same revision files on TimescaleDB and on plain PostgreSQL, by Alembic's own command; and from one to another."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ingest.adopt import adopt
from ingest.errors import FatalError, SettingsError
from ingest.local.postgres import query
from ingest.timescale.capability import Capability, Target
from tests.support.database import ROOT, alembic
from tests.timescale.doors import Doors, metadata_of

ENV = """
from alembic import context
from ingest.migrate import run_migrations
from tests.timescale.doors import Doors, metadata_of
run_migrations(context, [metadata_of(Doors())], version_table="doors_version")
"""
SILENT = "No new upgrade operations detected"
DOORS = "SELECT relname, relkind FROM pg_class WHERE relname LIKE 'doors%' AND relkind IN ('r', 'v') ORDER BY 1"
ROWS = "INSERT INTO doors SELECT 'front', now() - n * INTERVAL '20 minutes' FROM generate_series(1, 1000) n"
VIEWS = (
    "SELECT bucket, door, events, opened FROM doors_per_minute ORDER BY 1",
    "SELECT bucket, door, events FROM doors_per_hour ORDER BY 1",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with migrations of its own, and no revision yet. Its ``alembic.ini``."""
    (tmp_path / "migrations" / "versions").mkdir(parents=True)
    (tmp_path / "migrations" / "env.py").write_text(ENV)
    (tmp_path / "migrations" / "script.py.mako").write_text((ROOT / "migrations" / "script.py.mako").read_text())
    config = tmp_path / "alembic.ini"
    config.write_text(
        f"[alembic]\nscript_location = {tmp_path}/migrations\nprepend_sys_path = {ROOT}\npath_separator = os\n"
    )
    return config


def write_revision(project: Path, url: str, timescale: str) -> Path:
    alembic(url, "revision", "--autogenerate", "-m", "doors", config=project, timescale=timescale)
    (revision,) = (project.parent / "migrations" / "versions").glob("*.py")
    return revision


def test_a_revision_goes_up_and_down_on_timescaledb(project: Path, timescale_url: str) -> None:
    revision = write_revision(project, timescale_url, "required")
    linted = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--config", str(ROOT / "pyproject.toml"), "--ignore", "E501", revision],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert linted.returncode == 0, linted.stdout
    alembic(timescale_url, "upgrade", "head", config=project, timescale="required")
    assert SILENT in alembic(timescale_url, "check", config=project, timescale="required")
    query(timescale_url, ROWS)
    assert SILENT in alembic(timescale_url, "check", config=project, timescale="required")
    alembic(timescale_url, "downgrade", "base", config=project, timescale="required")
    assert query(timescale_url, "SELECT relname FROM pg_class WHERE relname IN ('doors', 'doors_per_hour')") == []
    alembic(timescale_url, "upgrade", "head", config=project, timescale="required")
    sql = alembic(timescale_url, "upgrade", "head", "--sql", config=project, timescale="required")
    assert "CREATE EXTENSION IF NOT EXISTS timescaledb;" in sql
    assert "SELECT create_hypertable('doors', by_range('timestamp', INTERVAL '1 day')" in sql
    assert "WHERE door NOT LIKE '%a:b%'" in sql
    plain = alembic(timescale_url, "upgrade", "head", "--sql", config=project, timescale="off")
    assert "timescaledb" not in plain
    assert "CREATE VIEW doors_per_hour AS" in plain


def test_a_revision_goes_up_and_down_on_plain_postgresql(project: Path, empty_database_url: str) -> None:
    url = empty_database_url
    write_revision(project, url, "off")
    for mode in ("off", "auto"):
        said = alembic(url, "upgrade", "head", config=project, timescale=mode)
        assert ("the server has no TimescaleDB; install it" in said) == (mode == "auto")
        assert query(url, DOORS) == [
            ("doors", b"r"), ("doors_per_hour", b"v"), ("doors_per_minute", b"v"), ("doors_version", b"r"),
        ]  # fmt: skip
        assert SILENT in alembic(url, "check", config=project, timescale=mode)
        alembic(url, "downgrade", "base", config=project, timescale=mode)
        assert query(url, DOORS) == [("doors_version", b"r")]
    refused = alembic(url, "upgrade", "head", config=project, timescale="required", check=False)
    assert "Traceback" not in refused
    assert (
        "hypertable doors can't be kept: the server has no TimescaleDB; install it. "
        "Or set LOOM_TIMESCALE=auto to have ordinary tables instead"
    ) in refused
    assert query(url, DOORS) == [("doors_version", b"r")]
    unknown = alembic(url, "upgrade", "head", config=project, timescale="maybe", check=False)
    assert "LOOM_TIMESCALE" in unknown and "Traceback" not in unknown


async def test_a_plain_database_with_rows_becomes_what_is_declared(
    project: Path, timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = timescale_url
    write_revision(project, url, "required")
    alembic(url, "upgrade", "head", config=project, timescale="off")
    query(url, ROWS)
    plain = [query(url, view) for view in VIEWS]
    assert len(plain[0]) == 1000
    assert query(url, "SELECT 1 FROM timescaledb_information.hypertables") == []
    # Where plain is allowed it is right; where it is not, the difference is seen.
    assert SILENT in alembic(url, "check", config=project, timescale="auto")
    assert "create_hypertable" in alembic(url, "check", config=project, timescale="required", check=False)

    monkeypatch.setenv("LOOM_DATABASE_URL", url)
    said: list[str] = []
    metadata = [metadata_of(Doors())]
    await adopt(metadata, dry_run=True, say=said.append)
    assert said[0] == "would create_hypertable doors: time_column timestamp, chunk_interval 1 day"
    assert query(url, "SELECT 1 FROM timescaledb_information.hypertables") == []
    announced = [line.removeprefix("would ") for line in said]
    said.clear()
    await adopt(metadata, dry_run=False, say=said.append)
    assert said == announced
    assert [line.split(":")[0] for line in said] == [
        "create_hypertable doors",
        "enable_columnstore doors",
        "add_columnstore_policy doors",
        "drop_continuous_aggregate doors_per_hour",
        "drop_continuous_aggregate doors_per_minute",
        "create_continuous_aggregate doors_per_minute",
        "create_continuous_aggregate doors_per_hour",
        "refresh_continuous_aggregate doors_per_minute",
        "refresh_continuous_aggregate doors_per_hour",
        # Policies run at once: before the refreshes, one would hide that the rest is still to be materialized.
        "add_continuous_aggregate_policy doors_per_minute",
        "add_continuous_aggregate_policy doors_per_hour",
        "add_retention_policy doors",
        "add_retention_policy doors_per_minute",
    ]
    assert SILENT in alembic(url, "check", config=project, timescale="required")
    assert [query(url, view) for view in VIEWS] == plain  # TimescaleDB and PostgreSQL agree on every bucket
    said.clear()
    await adopt(metadata, dry_run=False, say=said.append)
    assert said == ["everything is as declared"]
    alembic(url, "downgrade", "base", config=project, timescale="off")  # looks at what is there, not at the mode
    assert query(url, "SELECT relname FROM pg_class WHERE relname IN ('doors', 'doors_per_hour')") == []


async def test_adopting_tables_without_rows_leaves_nothing_to_do(
    project: Path, timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_revision(project, timescale_url, "required")
    alembic(timescale_url, "upgrade", "head", config=project, timescale="off")
    monkeypatch.setenv("LOOM_DATABASE_URL", timescale_url)
    said: list[str] = []
    await adopt([metadata_of(Doors())], dry_run=False, say=said.append)
    assert "refresh" not in " ".join(line.split()[0] for line in said)
    said.clear()
    await adopt([metadata_of(Doors())], dry_run=False, say=said.append)
    assert said == ["everything is as declared"]


async def test_adopting_on_the_apache_build_makes_hypertables_and_keeps_plain_views(
    project: Path, timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The build here is the other one, so what it would find out is given."""
    write_revision(project, timescale_url, "required")
    alembic(timescale_url, "upgrade", "head", config=project, timescale="off")
    query(timescale_url, ROWS)
    query(timescale_url, "DROP VIEW doors_per_hour")  # one that is lacking is made again, as what it can be
    found = Capability(hypertables=True, community=False, lack="its TimescaleDB is the Apache-licensed build")
    monkeypatch.setattr(Target, "capability", property(lambda self: found))
    monkeypatch.setenv("LOOM_DATABASE_URL", timescale_url)
    metadata = [metadata_of(Doors())]
    with pytest.raises(FatalError, match=r"^columnstore of doors can't be kept: .*Or set LOOM_TIMESCALE=auto"):
        await adopt(metadata, dry_run=False, say=print)
    monkeypatch.setenv("LOOM_TIMESCALE", "auto")
    for dry_run in (True, False):
        said: list[str] = []
        await adopt(metadata, dry_run=dry_run, say=said.append)
        assert [line.removeprefix("would ").split(":")[0] for line in said] == [
            "create_hypertable doors",
            "create_continuous_aggregate doors_per_hour",
        ]
    assert query(timescale_url, "SELECT hypertable_name FROM timescaledb_information.hypertables") == [("doors",)]
    assert query(timescale_url, "SELECT sum(events)::int FROM doors_per_hour") == [(1000,)]
    said.clear()
    await adopt(metadata, dry_run=False, say=said.append)
    assert said == ["everything is as declared"]
    found = Capability(hypertables=False, community=False, lack="the server has no TimescaleDB; install it")
    with pytest.raises(FatalError, match="there can't be hypertables: the server has no TimescaleDB"):
        await adopt(metadata, dry_run=False, say=print)


async def test_a_view_of_somebody_on_a_plain_aggregate_is_named_and_adopting_goes_on_without_it(
    project: Path, timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = timescale_url
    write_revision(project, url, "required")
    alembic(url, "upgrade", "head", config=project, timescale="off")
    query(url, "CREATE VIEW somebody_elses AS SELECT * FROM doors_per_hour")
    monkeypatch.setenv("LOOM_DATABASE_URL", url)
    metadata = [metadata_of(Doors())]
    with pytest.raises(FatalError, match=r"view somebody_elses depends on view doors_per_hour.*called again"):
        await adopt(metadata, dry_run=False, say=lambda _: None)
    query(url, "DROP VIEW somebody_elses")
    await adopt(metadata, dry_run=False, say=lambda _: None)
    assert SILENT in alembic(url, "check", config=project, timescale="required")


async def test_a_coarser_aggregate_gets_what_a_finer_one_still_knows(
    project: Path, timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where retention has taken the rows."""
    url = timescale_url
    write_revision(project, url, "required")
    alembic(url, "upgrade", "head", config=project, timescale="required")
    for statement in (
        ROWS,
        "CALL refresh_continuous_aggregate('doors_per_minute', NULL, NULL)",
        "DROP MATERIALIZED VIEW doors_per_hour",
        "SELECT drop_chunks('doors', now() + INTERVAL '9 days')",
    ):
        query(url, statement)
    monkeypatch.setenv("LOOM_DATABASE_URL", url)
    said: list[str] = []
    await adopt([metadata_of(Doors())], dry_run=False, say=said.append)
    assert [line.split(":")[0] for line in said] == [
        "create_continuous_aggregate doors_per_hour",
        "refresh_continuous_aggregate doors_per_hour",
        "add_continuous_aggregate_policy doors_per_hour",
    ]
    query(url, "ALTER MATERIALIZED VIEW doors_per_hour SET (timescaledb.materialized_only = true)")
    assert query(url, "SELECT sum(events)::int FROM doors_per_hour") == [(1000,)]


async def test_no_continuous_aggregate_with_its_numbers_is_dropped_by_adopting(
    project: Path, timescale_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = timescale_url
    write_revision(project, url, "required")
    alembic(url, "upgrade", "head", config=project, timescale="required")
    monkeypatch.setenv("LOOM_DATABASE_URL", url)
    changed = [metadata_of(Doors(longest=True))]
    there = "SELECT view_name::text FROM timescaledb_information.continuous_aggregates ORDER BY 1"
    before = query(url, there)
    with pytest.raises(FatalError, match="doors_per_hour is a continuous aggregate already, and another one than"):
        await adopt(changed, dry_run=False, say=print)
    query(
        url,
        "CREATE MATERIALIZED VIEW mine WITH (timescaledb.continuous) AS SELECT time_bucket('1 day', bucket) AS day, "
        "sum(events) AS events FROM doors_per_minute GROUP BY 1 WITH NO DATA",
    )
    with pytest.raises(FatalError, match=r"mine reads doors_per_minute, which is to be dropped.*drop it, and make it"):
        await adopt(changed, dry_run=False, say=print)
    assert query(url, there) == sorted([*before, ("mine",)])


async def test_adopting_where_it_is_switched_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_TIMESCALE", "off")
    with pytest.raises(SettingsError, match="LOOM_TIMESCALE is off"):
        await adopt([], dry_run=True, say=print)
