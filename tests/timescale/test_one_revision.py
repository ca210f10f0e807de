"""Changes that one revision makes together, in an order that works, up and down."""

from __future__ import annotations

from sqlalchemy import Column, Connection, DateTime, Integer, MetaData, Table, UniqueConstraint, text

from ingest.hypertables import Columnstore, Hypertable, days
from tests.support.declared import carry_out, compared, on_database, proposed


def floors(columnstore: Columnstore | None, *columns: str) -> MetaData:
    """A table with columns that a columnstore may name."""
    metadata = MetaData()
    Table(
        "floors",
        metadata,
        Column("timestamp", DateTime(timezone=True), nullable=False),
        *(Column(name, Integer) for name in columns),
        Hypertable("timestamp", chunk_interval=days(1), columnstore=columnstore),
    )
    return metadata


def visits(*key: str, hypertable: bool) -> MetaData:
    """A table with a key, which has to hold the time only where it is a hypertable."""
    metadata = MetaData()
    Table(
        "visits",
        metadata,
        Column("id", Integer, nullable=False),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        UniqueConstraint(*key, name="visits_" + "_".join(key)),
        *([Hypertable("timestamp", chunk_interval=days(1), retention=days(90))] if hypertable else []),
    )
    return metadata


def there_and_back(connection: Connection, before: MetaData, after: MetaData, expected: list[str]) -> None:
    """The change is exactly these operations; done, and taken back, nothing is left to do."""
    script = compared(connection, after)
    assert [kind for kind, _ in proposed(connection, after)] == expected
    carry_out(connection, script.upgrade_ops)
    assert proposed(connection, after) == []
    carry_out(connection, script.downgrade_ops)
    assert proposed(connection, before) == []


def test_columns_and_the_columnstore_that_names_them_change_together(timescale_url: str) -> None:
    before = floors(Columnstore(days(7), ("floor",), ("room", "timestamp desc")), "floor", "room")

    def work(connection: Connection) -> None:
        carry_out(connection, compared(connection, before).upgrade_ops)
        connection.execute(text("INSERT INTO floors SELECT now() - n * INTERVAL '1 day' FROM generate_series(1, 20) n"))
        connection.commit()
        # TimescaleDB's own order takes the place of the former one, which would stay otherwise.
        own_order = floors(Columnstore(days(7), ("floor",)), "floor", "room")
        there_and_back(connection, before, own_order, ["enable_columnstore"])
        # TimescaleDB adds the time to an order that lacks it.
        there_and_back(connection, before, floors(Columnstore(days(7), ("floor",), ("room",)), "floor", "room"), [])
        # No column can go while the settings name it.
        for columnstore, columns, expected in (
            (Columnstore(days(7)), (), ["enable_columnstore", "remove_column", "remove_column"]),
            (None, ("room",), ["remove_columnstore_policy", "disable_columnstore", "remove_column"]),
            (
                Columnstore(days(9), ("house",), ("room",)),
                ("room", "house"),
                [
                    "remove_columnstore_policy",
                    "enable_columnstore",
                    "add_column",
                    "remove_column",
                    "enable_columnstore",
                    "add_columnstore_policy",
                ],
            ),
        ):
            there_and_back(connection, before, floors(columnstore, *columns), expected)

    on_database(timescale_url, work)


def test_a_hypertable_and_its_key_change_together(timescale_url: str) -> None:
    before, after = visits("id", "timestamp", hypertable=True), visits("id", hypertable=False)
    changed = ["remove_constraint", "add_constraint"]

    def work(connection: Connection) -> None:
        carry_out(connection, compared(connection, before).upgrade_ops)
        connection.execute(
            text("INSERT INTO visits SELECT n, now() - n * INTERVAL '1 day' FROM generate_series(1, 9) n")
        )
        connection.commit()
        reverted = ["remove_retention_policy", "revert_hypertable"]
        there_and_back(connection, before, after, [*reverted, *changed])
        carry_out(connection, compared(connection, after).upgrade_ops)
        there_and_back(connection, after, before, [*changed, "create_hypertable", "add_retention_policy"])
        assert connection.scalar(text("SELECT count(*) FROM visits")) == 9

    on_database(timescale_url, work)
