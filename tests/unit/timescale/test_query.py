"""The aggregate's SQL: readable, the same for both kinds of database, and read back from what PostgreSQL says."""

from __future__ import annotations

from datetime import timedelta

from ingest.hypertables import aggregates_of
from ingest.timescale.query import for_postgresql, for_timescale, parse_definition, query_text
from tests.timescale.doors import Doors, metadata_of


def test_the_bucket_is_the_only_difference_between_the_two_databases() -> None:
    _, per_hour = aggregates_of(metadata_of(Doors()))
    text = query_text(per_hour)
    assert text.count("{bucket}") == 2  # grouped by the bucket itself, not by the finer aggregate's column of that name
    width, time = timedelta(hours=1), "doors_per_minute.bucket"
    continuous, plain = for_timescale(text, width, time), for_postgresql(text, width, time)
    called = "time_bucket(INTERVAL '1 hour', doors_per_minute.bucket)"
    binned = "date_bin(INTERVAL '1 hour', doors_per_minute.bucket, TIMESTAMPTZ '2000-01-03 00:00:00+00')"
    assert continuous.replace(called, binned) == plain
    assert "{" not in continuous + plain


def test_a_percent_sign_and_a_colon_stay_what_they_are() -> None:
    per_minute, _ = aggregates_of(metadata_of(Doors()))
    assert "NOT LIKE '%a:b%'" in query_text(per_minute)


def test_a_live_definition_becomes_what_made_it() -> None:
    parsed = parse_definition(
        " SELECT time_bucket('01:00:00'::interval, \"timestamp\") AS bucket,\n    door\n   FROM doors\n"
        "  GROUP BY (time_bucket('01:00:00'::interval, \"timestamp\")), door;"
    )
    assert parsed is not None
    assert parsed.query == "SELECT {bucket} AS bucket,\n    door\n   FROM doors\n  GROUP BY {bucket}, door"
    assert (parsed.width, parsed.bucket_column) == ("01:00:00", "bucket")
    plain = parse_definition(
        " SELECT date_bin('1 day'::interval, bucket, '2000-01-03 00:00:00+00'::timestamp with time zone) AS day\n"
        " FROM v;"
    )
    assert plain is not None
    assert (plain.query, plain.width, plain.bucket_column) == ("SELECT {bucket} AS day\n FROM v", "1 day", "day")


def test_a_bucket_that_no_operation_makes_is_not_guessed() -> None:
    for bucket in (
        "time_bucket('1 mon'::interval, t)",
        "time_bucket('1 day'::interval, t, 'Europe/Berlin'::text)",
        "time_bucket(86400, t)",
    ):
        assert parse_definition(f" SELECT {bucket} AS bucket;") is None
    assert parse_definition(" SELECT count(*) AS count FROM h;") is None
