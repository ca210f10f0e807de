"""The views over the service's samples of itself. ``docs/monitoring.md`` says what their columns mean.

This is the single source of their text; the revision that made them carries a copy of its day. Changing a view means a
new revision, and a test compares the two. Plain SQL for PostgreSQL 14 and later, with or without TimescaleDB.

The newest sample of each partition is found by skipping from partition to partition along the index; a ``DISTINCT ON``
would read the whole week. It counts however old it is: lag does not go away because nobody reports it. The history asks
for each hour by itself, so that a condition on ``hour`` reads only those.
"""

from __future__ import annotations

_LAG_NOW = """
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

_PERFORMANCE_HISTORY = """
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

VIEWS = {
    "v_consumer_lag_now": _LAG_NOW,
    "v_consumer_performance_monitor": _PERFORMANCE_MONITOR,
    "v_consumer_alerts": _ALERTS,
    "v_consumer_performance_history": _PERFORMANCE_HISTORY,
}
"""Name → query, in the order in which they can be made. The first serves the second and the third, and whoever wants
the lag of each partition."""
