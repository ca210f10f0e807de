"""Changes that one revision makes together, in an order that works, up and down."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Integer,
    MetaData,
    Table,
    UniqueConstraint,
    func,
    select,
    text,
)

from ingest.hypertables import Columnstore, ContinuousAggregate, Hypertable, RefreshPolicy, days, time_bucket
from tests.support.declared import carry_out, compared, on_database, proposed


def floors(columnstore: Columnstore | None, *columns: str, time: str = "timestamp") -> MetaData:
    """A table with columns that a columnstore may name."""
    metadata = MetaData()
    Table(
        "floors",
        metadata,
        Column(time, DateTime(timezone=True), nullable=False),
        *(Column(name, Integer) for name in columns),
        Hypertable(time, chunk_interval=days(1), columnstore=columnstore),
    )
    return metadata


def visits(*key: str, hypertable: bool, room: type[Integer] = Integer, counted: bool = False) -> MetaData:
    """A table with a key, which has to hold the time only where it is a hypertable; ``counted`` by aggregates."""
    metadata = MetaData()
    table = Table(
        "visits",
        metadata,
        Column("id", Integer, nullable=False),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Column("room", room),
        UniqueConstraint(*key, name="visits_" + "_".join(key)),
        *([Hypertable("timestamp", chunk_interval=days(1), retention=days(90))] if hypertable else []),
    )
    if counted:
        bucket = time_bucket(days(1), table.c.timestamp).label("bucket")
        refresh = RefreshPolicy(start_offset=days(3), end_offset=days(0), schedule_interval=days(1))
        reads = select(bucket, func.sum(table.c.room).label("rooms")).group_by("bucket")
        ContinuousAggregate("visits_rooms", metadata, reads, refresh=refresh)
        reads = select(bucket, func.count().label("visits")).group_by("bucket")
        ContinuousAggregate("visits_per_day", metadata, reads, refresh=refresh)
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


def test_a_time_column_of_any_name_is_ordered_by_as_timescaledb_does(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        for time in ("event time", "2time", "Zeit"):
            without_order = floors(Columnstore(days(7), ("floor",)), "floor", "room", time=time)
            ordered = floors(Columnstore(days(7), ("floor",), ("room",)), "floor", "room", time=time)
            made = compared(connection, ordered)
            carry_out(connection, made.upgrade_ops)
            assert proposed(connection, ordered) == []
            other = floors(Columnstore(days(7), (), ("room", "floor desc")), "floor", "room", time=time)
            there_and_back(connection, ordered, other, ["enable_columnstore"])
            own_order = [] if time == "event time" else ["enable_columnstore"]
            there_and_back(connection, ordered, without_order, own_order)
            carry_out(connection, made.downgrade_ops)
            made = compared(connection, without_order)
            carry_out(connection, made.upgrade_ops)
            assert proposed(connection, without_order) == []
            carry_out(connection, made.downgrade_ops)

    on_database(timescale_url, work)


def test_a_hypertable_its_key_and_a_type_change_with_what_depends_on_them(timescale_url: str) -> None:
    before, after = visits("id", "timestamp", hypertable=True), visits("id", hypertable=False)
    changed = ["remove_constraint", "add_constraint"]

    def work(connection: Connection) -> None:
        carry_out(connection, compared(connection, before).upgrade_ops)
        connection.execute(
            text("INSERT INTO visits SELECT n, now() - n * INTERVAL '1 day', n FROM generate_series(1, 9) n")
        )
        connection.commit()
        reverted = ["remove_retention_policy", "revert_hypertable"]
        there_and_back(connection, before, after, [*reverted, *changed])
        carry_out(connection, compared(connection, after).upgrade_ops)
        there_and_back(connection, after, before, [*changed, "create_hypertable", "add_retention_policy"])
        assert connection.scalar(text("SELECT count(*) FROM visits")) == 9
        connection.rollback()
        # PostgreSQL changes no type that a view reads. An aggregate that does not read it stays.
        counted, wider = (
            visits("id", "timestamp", hypertable=True, room=room, counted=True) for room in (Integer, BigInteger)
        )
        carry_out(connection, compared(connection, counted).upgrade_ops)
        there_and_back(
            connection,
            counted,
            wider,
            [
                "remove_continuous_aggregate_policy",
                "drop_continuous_aggregate",
                "modify_type",
                "create_continuous_aggregate",
                "refresh_continuous_aggregate",
                "add_continuous_aggregate_policy",
            ],
        )

    on_database(timescale_url, work)
