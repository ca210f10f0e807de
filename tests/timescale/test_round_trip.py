"""Whatever is declared: made, it is as declared; one thing changed is exactly its operation; back, it is as before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from ingest.hypertables import Columnstore, RefreshPolicy, days, hours, minutes
from tests.support.declared import carry_out, compared, on_database, proposed
from tests.timescale.doors import Doors, metadata_of

EXAMPLES = 6
"""Each takes one to two seconds, on a machine that does nothing else."""

columnstores = st.none() | st.builds(
    Columnstore,
    st.none() | st.integers(1, 9).map(days),
    st.sampled_from([(), ("door",)]),
    st.sampled_from([("timestamp desc",), ("timestamp", "opened desc nulls last")]),
)
retentions = st.none() | st.integers(10, 90).map(days)
refreshes = st.none() | st.builds(
    RefreshPolicy, st.integers(2, 9).map(days), st.integers(0, 24).map(hours), st.integers(1, 600).map(minutes)
)
declarations = st.builds(
    Doors,
    chunk_interval=st.integers(1, 72).map(hours),
    columnstore=columnstores,
    retention=retentions,
    longest=st.booleans(),
    per_hour=st.booleans(),
    refresh=refreshes,
    kept=st.none() | st.integers(100, 1000).map(days),
)
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "chunk_interval": st.integers(1, 72).map(hours),
    "columnstore": columnstores,
    "retention": retentions,
    "refresh": refreshes,
    "kept": st.none() | st.integers(100, 1000).map(days),
}
OPERATIONS = {
    "chunk_interval": ({"set_chunk_interval"}, "doors"),
    "columnstore": (
        {"enable_columnstore", "disable_columnstore", "add_columnstore_policy", "remove_columnstore_policy"},
        "doors",
    ),
    "retention": ({"add_retention_policy", "remove_retention_policy"}, "doors"),
    "refresh": (
        {"add_continuous_aggregate_policy", "remove_continuous_aggregate_policy"},
        "doors_per_hour",
    ),
    "kept": ({"add_retention_policy", "remove_retention_policy"}, "doors_per_minute"),
}


def test_any_declaration_goes_round(timescale_url: str) -> None:
    def work(connection: Connection) -> None:
        @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
        @given(declarations, st.sampled_from(sorted(CHANGES)), st.data())
        def goes_round(doors: Doors, changed: str, data: st.DataObject) -> None:
            other = replace(doors, **{changed: data.draw(CHANGES[changed])})
            before, after = metadata_of(doors), metadata_of(other)
            made = compared(connection, before)
            try:
                carry_out(connection, made.upgrade_ops)
                assert proposed(connection, before) == []
                script = compared(connection, after)
                kinds, what = OPERATIONS[changed]
                found = proposed(connection, after)
                differs = other != doors and (changed != "refresh" or doors.per_hour)
                assert bool(found) == differs
                assert all(kind in kinds and name == what for kind, name in found), found
                carry_out(connection, script.upgrade_ops)
                assert proposed(connection, after) == []
                carry_out(connection, script.downgrade_ops)
                assert proposed(connection, before) == []
                carry_out(connection, made.downgrade_ops)
                assert connection.scalar(text("SELECT to_regclass('doors')")) is None
            finally:
                clean(connection)

        goes_round()

    on_database(timescale_url, work)


def clean(connection: Connection) -> None:
    """Also after an example that failed half way: the next one begins with nothing."""
    connection.rollback()
    connection.execute(text("DROP MATERIALIZED VIEW IF EXISTS doors_per_hour"))
    connection.execute(text("DROP MATERIALIZED VIEW IF EXISTS doors_per_minute"))
    connection.execute(text("DROP TABLE IF EXISTS doors"))
    connection.commit()
