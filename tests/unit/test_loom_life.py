"""How long Loom's rows are kept, in which form, and that no refresh of an aggregate outlives what it reads."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ingest.hypertables import ContinuousAggregate, aggregates_of, days, hypertable_of
from ingest.topics import Topic
from ingest.topics.columns import metadata
from tests.support.topics import LOOM
from tests.unit.loom_tables import COLUMNS, LIFE

AGGREGATES = aggregates_of(metadata)
every_hypertable = pytest.mark.parametrize("topic", LIFE, ids=lambda topic: topic.name)
every_aggregate = pytest.mark.parametrize("aggregate", AGGREGATES, ids=lambda aggregate: aggregate.name)


def aggregates_over(topic: Topic) -> list[ContinuousAggregate]:
    """Those of the topic's table, and those built on them; the finest first."""
    found: list[ContinuousAggregate] = []
    for each in AGGREGATES:
        if each.source is topic.tables[0] or each.source in found:
            found.append(each)
    return found


def kept(aggregate: ContinuousAggregate) -> timedelta:
    """How long what the aggregate reads is kept."""
    source = aggregate.source
    retention = source.retention if isinstance(source, ContinuousAggregate) else hypertable_of(source).retention  # type: ignore[union-attr]
    assert retention is not None
    return retention


@every_hypertable
def test_rows_live_as_long_and_in_the_form_that_the_platform_says(topic: Topic) -> None:
    life, declared = LIFE[topic], hypertable_of(topic.tables[0])
    assert declared is not None and declared.columnstore is not None
    assert declared.time_column == "timestamp"
    assert declared.retention == days(life.kept)
    assert declared.columnstore.after == days(life.columnstore_after)
    assert declared.columnstore.segment_by == life.segment_by
    assert declared.columnstore.order_by == ("timestamp DESC",)


@every_hypertable
def test_chunks_are_a_day_of_a_stream_and_else_a_quarter_of_what_is_kept(topic: Topic) -> None:
    declared = hypertable_of(topic.tables[0])
    assert declared is not None
    if topic.name in ("media.audio.voice_segments", "device.sensor.gps.raw", "device.sensor.accelerometer.raw"):
        assert declared.chunk_interval == days(1)
    else:
        assert declared.chunk_interval <= min(days(7), days(LIFE[topic].kept) / 4)


@every_hypertable
def test_aggregates_are_kept_longer_than_the_rows(topic: Topic) -> None:
    found = aggregates_over(topic)
    assert {each.bucket_width: each.retention for each in found} == {
        width: days(count) for width, count in LIFE[topic].aggregates.items()
    }
    assert all(each.retention is not None and each.retention > kept(each) for each in found)


def test_only_tables_with_a_time_in_their_key_are_hypertables() -> None:
    assert {topic for topic in LOOM.values() if hypertable_of(topic.tables[0])} == set(LIFE)
    assert {topic.name for topic in COLUMNS if topic not in LIFE} == {
        "analysis.text.embedded.emails",
        "analysis.text.embedded.twitter",
        "task.url.processed.twitter_archived",
    }


@every_aggregate
def test_refresh_ends_before_retention_takes_what_it_reads(aggregate: ContinuousAggregate) -> None:
    assert aggregate.refresh is not None
    assert aggregate.refresh.start_offset < kept(aggregate)
    assert aggregate.refresh.start_offset - aggregate.refresh.end_offset >= 2 * aggregate.bucket_width


@every_aggregate
def test_a_coarser_aggregate_looks_back_over_all_that_the_finer_one_still_changes(
    aggregate: ContinuousAggregate,
) -> None:
    assert aggregate.refresh is not None
    if isinstance(aggregate.source, ContinuousAggregate):
        finer = aggregate.source.refresh
        assert finer is not None
        assert aggregate.refresh.start_offset >= finer.start_offset + aggregate.bucket_width


@every_aggregate
def test_every_average_stands_beside_the_sum_and_the_count_that_it_is_made_of(aggregate: ContinuousAggregate) -> None:
    names = set(aggregate.c.keys())
    assert {"bucket", "device_id", "messages", "first_timestamp", "last_timestamp"} <= names
    averages = {name.removesuffix("_avg") for name in names if name.endswith("_avg")}
    assert averages
    for name in averages:
        assert {f"{name}_sum", f"{name}_count"} <= names


@every_aggregate
def test_an_aggregate_is_grouped_by_what_its_table_is_segmented_by(aggregate: ContinuousAggregate) -> None:
    (topic,) = [topic for topic in LIFE if aggregate in aggregates_over(topic)]
    assert aggregate.name.startswith(topic.tables[0].name.removesuffix("_raw") + "_per_")
    assert set(LIFE[topic].segment_by) <= set(aggregate.c.keys())


def test_the_platforms_averages_are_there() -> None:
    averages = {each.name: {column.name for column in each.c if column.name.endswith("_avg")} for each in AGGREGATES}
    assert "confidence_score_avg" in averages["media_audio_voice_segments_per_minute"]
    assert averages["media_audio_voice_segments_per_minute"] == averages["media_audio_voice_segments_per_hour"]
    assert {"valence_score_avg", "arousal_score_avg", "dominance_score_avg"} <= averages[
        "analysis_audio_emotion_scores_per_hour"
    ]
