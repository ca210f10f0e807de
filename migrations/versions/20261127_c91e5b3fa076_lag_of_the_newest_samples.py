"""Lag now is that of every partition's newest sample, also of partitions that nobody reports any more.

Revision c91e5b3fa076, after a4d81f6c2e90. Samples older than 3 minutes were left out of ``total_lag``,
``max_partition_lag`` and ``lag_status``: what nobody wrote any more looked as if it had been written. The columns are the
same, and the service does not read the views: old code runs on the new schema and new code on the old.
"""

from __future__ import annotations

from alembic import op

revision = "c91e5b3fa076"
down_revision = "a4d81f6c2e90"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_consumer_performance_monitor AS {_PERFORMANCE_MONITOR}")
    op.execute(f"CREATE OR REPLACE VIEW v_consumer_alerts AS {_ALERTS}")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_consumer_alerts AS {_before(_ALERTS)}")
    op.execute(f"CREATE OR REPLACE VIEW v_consumer_performance_monitor AS {_before(_PERFORMANCE_MONITOR)}")


def _before(query: str) -> str:
    for new, former in _CHANGES:
        query = query.replace(new, former)
    return query


_CHANGES = (
    ("sum(lag)::bigint AS total_lag", "(sum(lag) FILTER (WHERE NOT stale))::bigint AS total_lag"),
    ("max(lag) AS max_partition_lag", "max(lag) FILTER (WHERE NOT stale) AS max_partition_lag"),
    (
        """
        concat(
            format('%s messages behind (%s)', total_lag, lag_status),
            CASE WHEN stale_lag > 0 THEN format(', %s of them in partitions that nobody reports now', stale_lag) END
        ) AS description,
        groups.sampled_at AS observed_at
    FROM v_consumer_performance_monitor
    JOIN groups USING (consumer_group)
""",
        """
        format('%s messages behind (%s)', total_lag, lag_status) AS description,
        last_sample_at AS observed_at
    FROM v_consumer_performance_monitor
""",
    ),
    ("sum(lag) FILTER (WHERE stale) AS stale_lag,", ""),
)
"""What stands in the views from this revision on, and what stood there before it."""

_PERFORMANCE_MONITOR = """
WITH lag_now AS (
    SELECT
        consumer_group,
        sum(lag)::bigint AS total_lag,
        max(lag) AS max_partition_lag,
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
WITH partitions AS MATERIALIZED (
    SELECT * FROM v_consumer_lag_now
),
groups AS (
    SELECT
        consumer_group,
        bool_and(stale) AS silent,
        sum(lag) FILTER (WHERE stale) AS stale_lag,
        max(sampled_at) AS sampled_at
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
        concat(
            format('%s messages behind (%s)', total_lag, lag_status),
            CASE WHEN stale_lag > 0 THEN format(', %s of them in partitions that nobody reports now', stale_lag) END
        ) AS description,
        groups.sampled_at AS observed_at
    FROM v_consumer_performance_monitor
    JOIN groups USING (consumer_group)
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
