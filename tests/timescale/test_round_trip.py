"""Whatever is declared: made, it is as declared; one thing changed is exactly its operations; back, it is as before.

The table has rows, a compressed chunk and filled aggregates, older than any refresh window, and the policies run after
each step: whoever loses numbers is seen. What "as before" means is read from the catalogs, not from the comparison that
is tested.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from tests.support.declared import carry_out, compared, differences, on_database, outside_transaction, proposed
from tests.timescale.declarations import CHANGES, PLAINEST, Change, declarations
from tests.timescale.doors import VIEWS, Doors, metadata_of
from tests.timescale.expected import expected, told
from tests.timescale.snapshot import snapshot

EXAMPLES = int(os.environ.get("LOOM_TEST_EXAMPLES", "1"))
"""Of each change. Each takes up to two seconds, on a machine that does nothing else."""
SEED = int(os.environ.get("LOOM_TEST_SEED", "20261127"))
AGES = ("20 days", "19 days", "9 days", "3 days", "1 day", "2 hours")
"""Of the rows."""
NEXT_RUNS = """
SELECT CASE WHEN proc_name <> 'policy_refresh_continuous_aggregate' THEN format('CALL run_job(%s)', job_id)
    ELSE format('CALL refresh_continuous_aggregate(%L, now() - %L::interval, now() - %L::interval)',
        coalesce(a.view_name, j.hypertable_name), config ->> 'start_offset', config ->> 'end_offset') END
FROM timescaledb_information.jobs j LEFT JOIN timescaledb_information.continuous_aggregates a ON
    (j.hypertable_schema, j.hypertable_name) = (a.materialization_hypertable_schema, a.materialization_hypertable_name)
WHERE job_id >= 1000 ORDER BY job_id
"""
"""What the jobs do. A refresh is done in one go: the policy takes ten buckets at a time, and seconds."""


def test_any_declaration_goes_round(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        # Where a scheduler runs, policies would run at any time; here they do when they are told to.
        connection.execute(text("SELECT _timescaledb_functions.stop_background_workers()"))
        connection.commit()
        for number, (name, change) in enumerate(CHANGES.items()):
            try:
                examples_of(connection, change, SEED + number)
            except BaseException:
                sys.stderr.write(f"change: {name}, seed: {SEED + number}\n")
                raise

    on_database(timescale_url, work)


def examples_of(connection: Connection, change: Change, seeded: int) -> None:
    @seed(seeded)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(declarations, st.data())
    def goes_round(drawn: Doors, data: st.DataObject) -> None:
        assume(drawn != PLAINEST)  # with which every change would begin
        before, after = change(drawn, data.draw)
        assert before != after
        try:
            go_round(connection, before, after)
        finally:
            clean(connection)

    goes_round()


def go_round(connection: Connection, before: Doors, after: Doors) -> None:
    declared, otherwise = metadata_of(before), metadata_of(after)
    made = compared(connection, declared)
    carry_out(connection, made.upgrade_ops)
    fill(connection, before)
    assert proposed(connection, declared) == []
    there = snapshot(connection, "doors")

    script = compared(connection, otherwise)
    assert [told(each) for each in differences(script)] == expected(before, after)
    carry_out(connection, script.upgrade_ops)
    assert proposed(connection, otherwise) == []
    assert_all_is_counted(connection, after)

    carry_out(connection, script.downgrade_ops)
    assert snapshot(connection, "doors") == there
    assert_all_is_counted(connection, before)
    carry_out(connection, made.downgrade_ops)
    assert snapshot(connection, "doors") == frozenset()


def fill(connection: Connection, doors: Doors) -> None:
    ages = ", ".join(f"INTERVAL '{age}'" for age in AGES)
    connection.execute(
        text(f"INSERT INTO doors SELECT 'front', now() - age FROM unnest(ARRAY[{ages}]) age")  # noqa: S608
    )
    if doors.hypertable and doors.columnstore is not None and "floor" not in doors.columnstore.order_by:
        connection.execute(text("SELECT compress_chunk(c) FROM show_chunks('doors', INTERVAL '15 days') c"))
    connection.commit()
    refreshes = [f"CALL refresh_continuous_aggregate('{view}', NULL, NULL)" for view in reversed(views_of(doors))]
    outside_transaction(connection, *refreshes)


def assert_all_is_counted(connection: Connection, doors: Doors) -> None:
    """Also after what each policy does next."""
    runs = connection.scalars(text(NEXT_RUNS)).all()
    outside_transaction(connection, *runs)
    counts = {"doors": "count(*)"} | dict.fromkeys(views_of(doors), "sum(events)")
    found: dict[str, Any] = {
        name: connection.scalar(text(f"SELECT {count} FROM {name}"))  # noqa: S608 - the test's own
        for name, count in counts.items()
    }
    connection.rollback()
    assert found == dict.fromkeys(counts, len(AGES))


def views_of(doors: Doors) -> list[str]:
    """From coarse to fine."""
    there = {"doors_per_hour": doors.per_minute and doors.per_hour, "doors_per_minute": doors.per_minute}
    return [view for view in VIEWS if there[view]]


def clean(connection: Connection) -> None:
    """Also after an example that failed half way: the next one begins with nothing."""
    connection.rollback()
    for view in VIEWS:
        connection.execute(text(f"DROP MATERIALIZED VIEW IF EXISTS {view}"))
    connection.execute(text("DROP TABLE IF EXISTS doors"))
    connection.commit()
