"""The service watches itself: samples of lag and throughput, and the views that read them.

Revision eaa178a88c85, after 93b84e5d17ca.
"""

from __future__ import annotations

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

revision = "eaa178a88c85"
down_revision = "93b84e5d17ca"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "consumer_lag_history",
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column(
            "current_offset",
            sa.BigInteger(),
            nullable=True,
            comment="the ledger's next offset; null: the partition is not in the ledger",
        ),
        sa.Column(
            "log_end_offset", sa.BigInteger(), nullable=False, comment="the offset that the broker gives away next"
        ),
        sa.Column("lag", sa.BigInteger(), nullable=True, comment="offsets between the two; null: not known"),
        sa.Column("timestamp", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        comment="how far each partition was behind, by the pod that owned it",
    )
    op.create_index(
        "consumer_lag_history_partition_idx",
        "consumer_lag_history",
        ["consumer_group", "topic", "partition", "timestamp"],
        unique=False,
    )
    op.create_hypertable("consumer_lag_history", "timestamp", chunk_interval=timedelta(days=1))
    op.add_retention_policy("consumer_lag_history", drop_after=timedelta(days=7))
    op.create_table(
        "consumer_processing_metrics",
        sa.Column(
            "service", sa.Text(), nullable=False, comment="the process: its client id, which holds the pod's name"
        ),
        sa.Column("consumer_group", sa.Text(), nullable=False),
        sa.Column("topic", sa.Text(), nullable=False),
        sa.Column(
            "interval_ms", sa.Integer(), nullable=False, comment="the time before timestamp that the row tells of"
        ),
        sa.Column("batches", sa.Integer(), nullable=False, comment="transactions that were committed"),
        sa.Column(
            "batch_size",
            sa.Double(),
            nullable=True,
            comment="messages of a transaction, on average; null: there was none",
        ),
        sa.Column(
            "duration_ms", sa.Double(), nullable=True, comment="ms of a transaction, on average; null: there was none"
        ),
        sa.Column("messages_processed", sa.BigInteger(), nullable=False, comment="written, or there already"),
        sa.Column("messages_failed", sa.BigInteger(), nullable=False, comment="became dead letters"),
        sa.Column(
            "write_failures", sa.Integer(), nullable=False, comment="transactions that failed and are tried again"
        ),
        sa.Column(
            "lane_state",
            sa.Text(),
            nullable=False,
            comment="running, retrying, stopped, fuse_open or paused, at timestamp",
        ),
        sa.Column("problem", sa.Text(), nullable=True, comment="why the lane is not running"),
        sa.Column("timestamp", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        comment="what each lane of each pod did",
    )
    op.create_index(
        op.f("consumer_processing_metrics_timestamp_idx"), "consumer_processing_metrics", ["timestamp"], unique=False
    )
    op.create_hypertable("consumer_processing_metrics", "timestamp", chunk_interval=timedelta(days=7))
    op.add_retention_policy("consumer_processing_metrics", drop_after=timedelta(days=30))
    op.execute(_LAG_NOW)
    op.execute(_PERFORMANCE_MONITOR)
    op.execute(_ALERTS)
    op.execute(_PERFORMANCE_HISTORY)


def downgrade() -> None:
    op.execute("DROP VIEW v_consumer_performance_history")
    op.execute("DROP VIEW v_consumer_alerts")
    op.execute("DROP VIEW v_consumer_performance_monitor")
    op.execute("DROP VIEW v_consumer_lag_now")
    op.drop_index(op.f("consumer_processing_metrics_timestamp_idx"), table_name="consumer_processing_metrics")
    op.drop_table("consumer_processing_metrics")
    op.drop_index("consumer_lag_history_partition_idx", table_name="consumer_lag_history")
    op.drop_table("consumer_lag_history")


_LAG_NOW = """
CREATE VIEW v_consumer_lag_now AS
WITH RECURSIVE known AS (
    (
        SELECT consumer_group, topic, partition
        FROM consumer_lag_history
        ORDER BY consumer_group, topic, partition
        LIMIT 1
    )
    UNION ALL
    SELECT after.consumer_group, after.topic, after.partition
    FROM known
    CROSS JOIN LATERAL (
        SELECT sample.consumer_group, sample.topic, sample.partition
        FROM consumer_lag_history AS sample
        WHERE (sample.consumer_group, sample.topic, sample.partition)
            > (known.consumer_group, known.topic, known.partition)
        ORDER BY sample.consumer_group, sample.topic, sample.partition
        LIMIT 1
    ) AS after
)
SELECT
    known.consumer_group,
    known.topic,
    known.partition,
    newest.current_offset,
    newest.log_end_offset,
    newest.lag,
    newest.timestamp AS sampled_at,
    newest.timestamp < now() - interval '3 minutes' AS stale,
    coalesce(
        newest.timestamp >= now() - interval '3 minutes'
        AND newest.lag > 0 AND earlier.lag > 0 AND newest.current_offset = earlier.current_offset,
        false
    ) AS stalled
FROM known
CROSS JOIN LATERAL (
    SELECT sample.current_offset, sample.log_end_offset, sample.lag, sample.timestamp
    FROM consumer_lag_history AS sample
    WHERE sample.consumer_group = known.consumer_group
        AND sample.topic = known.topic
        AND sample.partition = known.partition
    ORDER BY sample.timestamp DESC
    LIMIT 1
) AS newest
LEFT JOIN LATERAL (
    SELECT sample.current_offset, sample.lag
    FROM consumer_lag_history AS sample
    WHERE sample.consumer_group = known.consumer_group
        AND sample.topic = known.topic
        AND sample.partition = known.partition
        AND sample.timestamp > now() - interval '10 minutes'
        AND sample.timestamp <= now() - interval '5 minutes'
    ORDER BY sample.timestamp DESC
    LIMIT 1
) AS earlier ON true
"""

_PERFORMANCE_MONITOR = """
CREATE VIEW v_consumer_performance_monitor AS
WITH lag_now AS (
    SELECT
        consumer_group,
        (sum(lag) FILTER (WHERE NOT stale))::bigint AS total_lag,
        max(lag) FILTER (WHERE NOT stale) AS max_partition_lag,
        count(*) FILTER (WHERE NOT stale) AS partitions,
        count(*) FILTER (WHERE stale) AS stale_partitions,
        count(*) FILTER (WHERE stalled) AS stalled_partitions,
        max(sampled_at) AS last_sample_at
    FROM v_consumer_lag_now
    GROUP BY consumer_group
),
recent AS MATERIALIZED (
    SELECT *
    FROM consumer_processing_metrics
    WHERE timestamp > now() - interval '5 minutes'
),
work AS (
    SELECT
        consumer_group,
        sum(batch_size * batches) / nullif(sum(batches), 0) AS avg_batch_size,
        sum(duration_ms * batches) / nullif(sum(batches), 0) AS avg_processing_time_ms,
        sum(messages_processed)::bigint AS messages_processed,
        sum(messages_failed)::bigint AS messages_failed,
        sum(write_failures)::bigint AS write_failures,
        least(
            extract(epoch FROM now() - min(timestamp - interval_ms * interval '1 millisecond')), 300
        ) AS seconds,
        max(timestamp) AS last_metrics_at
    FROM recent
    GROUP BY consumer_group
),
lanes AS (
    SELECT DISTINCT ON (consumer_group, topic, service) consumer_group, topic, service, lane_state
    FROM recent
    WHERE timestamp >= now() - interval '3 minutes'
    ORDER BY consumer_group, topic, service, timestamp DESC
),
pods AS (
    SELECT
        consumer_group,
        count(DISTINCT service) AS pods,
        count(DISTINCT topic) FILTER (WHERE lane_state <> 'running') AS topics_in_trouble
    FROM lanes
    GROUP BY consumer_group
),
status AS (
    SELECT
        consumer_group,
        coalesce(pods.pods, 0) AS pods,
        coalesce(lag_now.partitions, 0) AS partitions,
        coalesce(lag_now.stale_partitions, 0) AS stale_partitions,
        coalesce(lag_now.stalled_partitions, 0) AS stalled_partitions,
        coalesce(pods.topics_in_trouble, 0) AS topics_in_trouble,
        lag_now.total_lag,
        lag_now.max_partition_lag,
        work.avg_batch_size,
        work.avg_processing_time_ms,
        work.messages_processed,
        work.messages_failed,
        work.write_failures,
        work.seconds,
        CASE
            WHEN lag_now.total_lag IS NULL THEN 'UNKNOWN'
            WHEN lag_now.total_lag <= 100 THEN 'HEALTHY'
            WHEN lag_now.total_lag <= 1000 THEN 'WATCH'
            WHEN lag_now.total_lag <= 10000 THEN 'WARNING'
            ELSE 'CRITICAL'
        END AS lag_status,
        greatest(lag_now.last_sample_at, work.last_metrics_at) AS last_sample_at
    FROM lag_now
    FULL JOIN work USING (consumer_group)
    LEFT JOIN pods USING (consumer_group)
)
SELECT
    consumer_group,
    pods,
    partitions,
    stale_partitions,
    stalled_partitions,
    topics_in_trouble,
    total_lag,
    max_partition_lag,
    round(avg_batch_size::numeric, 1) AS avg_batch_size,
    round(avg_processing_time_ms::numeric, 1) AS avg_processing_time_ms,
    messages_processed,
    messages_failed,
    write_failures,
    round((messages_processed + messages_failed) / nullif(seconds, 0)::numeric, 2) AS messages_per_second,
    round(100.0 * messages_failed / nullif(messages_processed + messages_failed, 0), 4) AS error_rate_percent,
    lag_status,
    CASE
        WHEN partitions = 0 AND pods = 0 THEN
            'No pod reports: see whether the pods run and reach the database'
        WHEN topics_in_trouble > 0 THEN
            'Lanes do not write: see v_consumer_alerts for topics and reasons'
        WHEN partitions = 0 THEN
            'No lag is sampled: see whether the broker answers the pods'
        WHEN stale_partitions > 0 THEN
            'Partitions are not reported: see v_consumer_alerts, and whether all pods run'
        WHEN stalled_partitions > 0 THEN
            'Partitions do not move: see v_consumer_alerts, and who holds locks in the database'
        WHEN lag_status = 'CRITICAL' THEN
            'Scale out, up to one pod a partition; see whether the database is slow'
        WHEN lag_status = 'WARNING' THEN
            'See whether the lag falls; if it does not, scale out'
        WHEN messages_failed > 0 THEN
            'Messages become dead letters: ingest dead-letters list'
        WHEN lag_status = 'WATCH' THEN
            'Look again in some minutes'
        WHEN lag_status = 'UNKNOWN' THEN
            'Partitions are not in the ledger yet; look again in a minute'
        ELSE 'Nothing to do'
    END AS recommendation,
    last_sample_at
FROM status
"""

_ALERTS = """
CREATE VIEW v_consumer_alerts AS
WITH partitions AS MATERIALIZED (
    SELECT * FROM v_consumer_lag_now
),
groups AS (
    SELECT consumer_group, bool_and(stale) AS silent, max(sampled_at) AS sampled_at
    FROM partitions
    GROUP BY consumer_group
),
recent AS MATERIALIZED (
    SELECT *
    FROM consumer_processing_metrics
    WHERE timestamp > now() - interval '5 minutes'
),
lanes AS (
    SELECT DISTINCT ON (consumer_group, topic, service)
        consumer_group, topic, service, lane_state, problem, timestamp
    FROM recent
    WHERE timestamp >= now() - interval '3 minutes'
    ORDER BY consumer_group, topic, service, timestamp DESC
),
alerts AS (
    SELECT
        consumer_group,
        NULL::text AS topic,
        'lag' AS alert,
        CASE lag_status
            WHEN 'CRITICAL' THEN 'IMMEDIATE_ACTION' WHEN 'WARNING' THEN 'INVESTIGATE' ELSE 'MONITOR'
        END AS action_required,
        format('%s messages behind (%s)', total_lag, lag_status) AS description,
        last_sample_at AS observed_at
    FROM v_consumer_performance_monitor
    WHERE lag_status IN ('WATCH', 'WARNING', 'CRITICAL')

    UNION ALL
    SELECT
        consumer_group,
        NULL,
        'silent',
        'IMMEDIATE_ACTION',
        format(
            'no lag sample of any partition since %s UTC', to_char(sampled_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI')
        ),
        sampled_at
    FROM groups
    WHERE silent

    UNION ALL
    SELECT
        consumer_group,
        partitions.topic,
        'stale',
        'INVESTIGATE',
        format(
            'no lag sample for over 3 minutes of partitions %s',
            string_agg(partitions.partition::text, ', ' ORDER BY partitions.partition)
        ),
        max(partitions.sampled_at)
    FROM partitions
    JOIN groups USING (consumer_group)
    WHERE partitions.stale AND NOT groups.silent
    GROUP BY consumer_group, partitions.topic

    UNION ALL
    SELECT
        consumer_group,
        topic,
        'stalled',
        'IMMEDIATE_ACTION',
        format(
            'nothing written for 5 minutes, though messages wait, of partitions %s',
            string_agg(partition::text, ', ' ORDER BY partition)
        ),
        max(sampled_at)
    FROM partitions
    WHERE stalled
    GROUP BY consumer_group, topic

    UNION ALL
    SELECT
        consumer_group,
        topic,
        'unknown_lag',
        'MONITOR',
        format('not in the ledger: partitions %s', string_agg(partition::text, ', ' ORDER BY partition)),
        max(sampled_at)
    FROM partitions
    WHERE NOT stale AND lag IS NULL
    GROUP BY consumer_group, topic

    UNION ALL
    SELECT
        consumer_group,
        topic,
        'lane',
        CASE
            WHEN bool_or(lane_state IN ('stopped', 'fuse_open')) THEN 'IMMEDIATE_ACTION' ELSE 'INVESTIGATE'
        END,
        format(
            '%s of %s pods: %s',
            count(*) FILTER (WHERE lane_state <> 'running'),
            count(*),
            string_agg(DISTINCT concat_ws(': ', lane_state, problem), '; ') FILTER (WHERE lane_state <> 'running')
        ),
        max(timestamp)
    FROM lanes
    GROUP BY consumer_group, topic
    HAVING bool_or(lane_state <> 'running')

    UNION ALL
    SELECT
        consumer_group,
        topic,
        'errors',
        CASE
            WHEN 10 * sum(messages_failed) >= sum(messages_processed + messages_failed) THEN 'IMMEDIATE_ACTION'
            WHEN 100 * sum(messages_failed) >= sum(messages_processed + messages_failed) THEN 'INVESTIGATE'
            ELSE 'MONITOR'
        END,
        format(
            '%s of %s messages became dead letters within 5 minutes',
            sum(messages_failed),
            sum(messages_processed + messages_failed)
        ),
        max(timestamp)
    FROM recent
    GROUP BY consumer_group, topic
    HAVING sum(messages_failed) > 0
)
SELECT consumer_group, topic, alert, action_required, description, observed_at
FROM alerts
ORDER BY
    array_position(ARRAY['IMMEDIATE_ACTION', 'INVESTIGATE', 'MONITOR'], action_required),
    consumer_group,
    topic NULLS FIRST,
    alert
"""

_PERFORMANCE_HISTORY = """
CREATE VIEW v_consumer_performance_history AS
SELECT
    hours.hour,
    work.consumer_group,
    work.pods,
    work.batches,
    round(work.avg_batch_size::numeric, 1) AS avg_batch_size,
    round(work.avg_processing_time_ms::numeric, 1) AS avg_processing_time_ms,
    work.messages_processed,
    work.messages_failed,
    work.write_failures,
    round(
        (work.messages_processed + work.messages_failed)
        / greatest(extract(epoch FROM least(now(), hours.hour + interval '1 hour') - hours.hour), 1),
        2
    ) AS messages_per_second,
    round(
        100.0 * work.messages_failed / nullif(work.messages_processed + work.messages_failed, 0), 4
    ) AS error_rate_percent
FROM generate_series(
    date_trunc('hour', now(), 'UTC') - interval '719 hours', date_trunc('hour', now(), 'UTC'), interval '1 hour'
) AS hours (hour)
CROSS JOIN LATERAL (
    SELECT
        sample.consumer_group,
        count(DISTINCT sample.service) AS pods,
        sum(sample.batches)::bigint AS batches,
        sum(sample.batch_size * sample.batches) / nullif(sum(sample.batches), 0) AS avg_batch_size,
        sum(sample.duration_ms * sample.batches) / nullif(sum(sample.batches), 0) AS avg_processing_time_ms,
        sum(sample.messages_processed)::bigint AS messages_processed,
        sum(sample.messages_failed)::bigint AS messages_failed,
        sum(sample.write_failures)::bigint AS write_failures
    FROM consumer_processing_metrics AS sample
    WHERE sample.timestamp >= hours.hour AND sample.timestamp < hours.hour + interval '1 hour'
    GROUP BY sample.consumer_group
) AS work
"""
