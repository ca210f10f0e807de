#!/usr/bin/env bash
# How far the consumer is behind, and why: one look at lag, connection pool, performance, alerts and pods.
#
# usage: scripts/monitor-consumer-lag.sh [options]
#
#   --watch [SECONDS]      look again every 10 (or SECONDS) seconds, until Ctrl-C
#   --namespace NAMESPACE  where the consumer runs (loom-dev)
#   --group GROUP          the consumer group (kafka-to-db-consumer)
#   --command-config FILE  properties of a Kafka client, for a broker that wants TLS or a login; the file is where Kafka's
#                          command runs: here, or in the pod of deployment kafka
#   --help                 this text
#
# It only reads. Each part is reached on the way that is there:
#   database  psql, where LOOM_DATABASE_URL is set; else psql in the pod of deployment timescaledb
#   Kafka     kafka-consumer-groups.sh on the PATH, where LOOM_KAFKA_BOOTSTRAP_SERVERS is set; else in the pod of
#             deployment kafka
#   cluster   kubectl, in its current context, or in a pod
# What can't be reached is said, and the others are shown. Where Kafka does not answer (it may be a managed one), the lag
# is the one that the consumer itself samples into the database, if its pods have done so within 90 seconds. A pod that
# does not reach the broker samples nothing.
#
# exit codes
#   0    healthy: of what there is a way to, all answers (for Kafka, samples of the lag may stand in) and nothing needs
#        attention (alerts to MONITOR may be there)
#   1    something needs attention, or did not answer; the last lines say what
#   2    the command line makes no sense
#   3    nothing could be reached
#   130  stopped by Ctrl-C before the first look was over. With --watch, Ctrl-C ends with the code of the last look.
set -euo pipefail

# shellcheck source=scripts/lib/consumer.sh
. "$(dirname "$0")/lib/consumer.sh"

namespace=loom-dev
group=kafka-to-db-consumer
context='' command_config=''
every=0
while [ $# -gt 0 ]; do
    case $1 in
        --watch)
            every=10
            case ${2:-} in
                '' | -*) ;;
                *) whole_number --watch "$2"; every=$2; shift ;;
            esac
            ;;
        --namespace) value_of "$@"; namespace=$VALUE; shift ;;
        --group) value_of "$@"; group=$VALUE; shift ;;
        --command-config) value_of "$@"; command_config=$VALUE; shift ;;
        -h | --help) help_text; exit ;;
        *) fail 2 "unknown: $1; see --help" ;;
    esac
    shift
done
choose_ways

reasons=() # why this look is not healthy
answered=0 # parts that answered in this look
last_total=''
last_code=130 # of the last look that is over

attention() { reasons+=("$1"); }

# unreachable PART: PROBLEM, which is a reason for attention.
unreachable() {
    warn "$1 did not answer: $PROBLEM"
    attention "$1 did not answer"
}

lag_table() {
    printf '%s\n' "TOPIC PARTITION COMMITTED END LAG CLIENT" "$LAG_ROWS" | awk '
        { for (i = 1; i <= 6; i++) { cell[NR, i] = $i; if (length($i) > width[i]) width[i] = length($i) } }
        END {
            for (row = 1; row <= NR; row++) {
                printf "  %-" width[1] "s", cell[row, 1]
                for (i = 2; i <= 5; i++) printf "  %" width[i] "s", cell[row, i]
                print "  " cell[row, 6]
            }
        }'
}

show_lag() {
    local source='as Kafka has it' status=0
    heading 'Consumer lag'
    LAG_ROWS='' lag_total='' sampled=''
    if [ -n "$kafka_by" ]; then
        read_kafka_lag || status=$?
        case $status in
            0) answered=$((answered + 1)) ;;
            2) answered=$((answered + 1)) && warn "$PROBLEM" && attention "$PROBLEM" ;;
            *) warn "Kafka did not answer: $PROBLEM" ;;
        esac
    else
        warn "Kafka was not asked: $kafka_missing"
    fi
    if [ -z "$LAG_ROWS" ] && [ "$status" -ne 2 ]; then
        if [ -z "$database_by" ]; then
            [ "$status" -eq 0 ] || attention 'Kafka did not answer'
        elif read_sampled_lag; then
            sampled='Kafka was not asked'
            [ "$status" -eq 0 ] || sampled='Kafka did not answer'
        else
            warn "$PROBLEM"
            if [ "$status" -eq 0 ]; then attention 'the lag is not known'; else attention 'Kafka did not answer'; fi
        fi
    fi
    [ -n "$LAG_ROWS" ] || return 0
    lag_table
    sum_up
    if [ -n "$sampled" ]; then
        source="as the consumer sampled it at most $lag_age s ago"
        # Nothing is sampled that the broker did not tell a pod. Older samples may be from before it went away.
        [ "$lag_age" -le "$SAMPLES_FRESH_S" ] || attention "$sampled, and samples of the lag are $lag_age s old"
    fi
    say "  $lag_total messages behind in $lag_partitions partitions ($(lag_status "$lag_total")), $source$(trend)"
    case $(lag_status "$lag_total") in
        WARNING | CRITICAL) attention "$lag_total messages behind" ;;
    esac
    if [ "$lag_unknown" -gt 0 ]; then
        warn "$lag_unknown partitions have no committed offset yet: their lag is not known and not counted"
        attention "$lag_unknown partitions without a committed offset"
    fi
    if [ "$lag_unowned" -gt 0 ]; then
        warn "$lag_unowned partitions have no consumer"
        attention "$lag_unowned partitions without a consumer"
    fi
}

# What has changed since the last look of --watch.
trend() {
    if [ -n "$last_total" ]; then
        printf '; %+d since the last look' "$((lag_total - last_total))"
    fi
}

show_pool() {
    local ours all most
    heading 'Connection pool'
    if [ -z "$database_by" ]; then
        warn "the database was not asked: $database_missing"
        return
    fi
    # In one transaction both statements see the same connections.
    if ! capture sql <<'SQL'; then
BEGIN;
SELECT
    coalesce(state, 'not shown to this role') AS state,
    count(*) AS connections,
    count(DISTINCT application_name) AS names,
    date_trunc('second', max(now() - state_change)) AS longest
FROM pg_stat_activity
WHERE application_name LIKE '%kafka%' AND datname = current_database()
GROUP BY state
ORDER BY count(*) DESC;
\pset format unaligned
\pset tuples_only on
SELECT
    count(*) FILTER (WHERE application_name LIKE '%kafka%' AND datname = current_database()),
    count(*),
    current_setting('max_connections')
FROM pg_stat_activity
-- Of others' sessions an ordinary role is not told the type.
WHERE backend_type = 'client backend' OR (backend_type IS NULL AND usesysid IS NOT NULL AND datid IS NOT NULL);
COMMIT;
SQL
        unreachable 'the database'
        return
    fi
    answered=$((answered + 1)) database_answers=yes
    IFS='|' read -r ours all most <<<"${CAPTURED##*$'\n'}"
    if [ "$ours" -eq 0 ]; then
        warn 'no connection of the consumer'
        attention 'the consumer has no connection to the database'
    else
        indented "${CAPTURED%$'\n'*}"
    fi
    say "  $ours of the consumer, $all of all clients of the server, which takes $most"
}

# A query of a monitoring view failed.
view_failed() {
    case $PROBLEM in
        *'does not exist'*)
            warn "the monitoring views are not there ($PROBLEM): alembic upgrade head"
            attention 'the monitoring views are missing'
            ;;
        *) unreachable 'the database' ;;
    esac
}

show_performance() {
    heading 'Consumer performance (the last 5 minutes)'
    if [ -z "$database_answers" ]; then
        warn 'not known without the database'
        return
    fi
    capture sql -x <<'SQL' || { view_failed && return; }
SELECT
    pods,
    partitions,
    stale_partitions,
    stalled_partitions,
    topics_in_trouble,
    total_lag,
    max_partition_lag,
    lag_status,
    avg_batch_size,
    avg_processing_time_ms,
    messages_processed,
    messages_failed,
    write_failures,
    messages_per_second,
    error_rate_percent,
    date_trunc('second', last_sample_at) AS last_sample_at,
    recommendation
FROM v_consumer_performance_monitor
WHERE consumer_group = :'group';
SQL
    if [ -z "$CAPTURED" ]; then
        warn "nothing was ever reported of group $group"
        attention "nothing was ever reported of group $group"
        return
    fi
    indented "$(printf '%s\n' "$CAPTURED" | grep -v -e '^-\[' -e '^(')"
}

show_alerts() {
    local alerts immediate investigate
    heading 'Active alerts'
    if [ -z "$database_answers" ]; then
        warn 'not known without the database'
        return
    fi
    capture sql <<'SQL' || { view_failed && return; }
SELECT action_required, alert, topic, description, date_trunc('second', observed_at) AS observed_at
FROM v_consumer_alerts
WHERE consumer_group = :'group'
ORDER BY array_position(ARRAY['IMMEDIATE_ACTION', 'INVESTIGATE', 'MONITOR'], action_required), topic NULLS FIRST, alert;
SQL
    alerts=$CAPTURED
    immediate=$(printf '%s\n' "$alerts" | grep -c '^ IMMEDIATE_ACTION') || true
    investigate=$(printf '%s\n' "$alerts" | grep -c '^ INVESTIGATE') || true
    if [ "$(printf '%s\n' "$alerts" | grep -c .)" -le 2 ]; then # the heading of a table without rows
        say '  none'
        return
    fi
    indented "$alerts"
    [ "$immediate" -eq 0 ] || attention "alerts for IMMEDIATE_ACTION: $immediate"
    [ "$investigate" -eq 0 ] || attention "alerts to INVESTIGATE: $investigate"
}

show_pods() {
    local wanted ready
    heading "Pods (namespace $namespace)"
    if [ -z "$cluster_by" ]; then
        warn "the cluster was not asked: $cluster_missing"
        return
    fi
    if ! capture kube get deployment "$RELEASE" --ignore-not-found \
        -o 'jsonpath={.spec.replicas}|{.status.readyReplicas}'; then
        unreachable 'the cluster'
        return
    fi
    answered=$((answered + 1))
    if [ -z "$CAPTURED" ]; then
        warn "there is no deployment $RELEASE"
        attention "there is no deployment $RELEASE in namespace $namespace"
        return
    fi
    IFS='|' read -r wanted ready <<<"$CAPTURED"
    say "  ${ready:-0} of ${wanted:-0} ready"
    if [ "${wanted:-0}" -eq 0 ]; then
        attention 'the deployment is scaled to 0 pods'
    elif [ "${ready:-0}" -lt "$wanted" ]; then
        attention "${ready:-0} of $wanted pods are ready"
    fi
    if capture kube get pods -l "app=$RELEASE"; then
        indented "$CAPTURED"
    else
        unreachable 'the cluster'
    fi
    say
    if capture kube top pods -l "app=$RELEASE"; then
        indented "$CAPTURED"
    else
        warn "what they use is not known: $PROBLEM" # metrics-server may not be there; the pods are none the worse
    fi
}

look() {
    local reason
    reasons=() answered=0 database_answers=''
    say "${BOLD}Group $group, $(date -u '+%Y-%m-%d %H:%M:%S') UTC$PLAIN"
    show_lag
    show_pool
    show_performance
    show_alerts
    show_pods
    last_total=$lag_total
    heading 'Verdict'
    if [ "$answered" -eq 0 ]; then
        say "  ${RED}NOTHING COULD BE REACHED$PLAIN: set LOOM_DATABASE_URL and LOOM_KAFKA_BOOTSTRAP_SERVERS, or see --help"
        last_code=3
    elif [ "${#reasons[@]}" -gt 0 ]; then
        say "  ${RED}NEEDS ATTENTION$PLAIN"
        for reason in "${reasons[@]}"; do say "  - $reason"; done
        last_code=1
    else
        say "  ${GREEN}HEALTHY$PLAIN"
        last_code=0
    fi
    [ -z "$sampled" ] || say "  The lag is the one that the consumer samples: $sampled"
}

if [ "$every" -eq 0 ]; then
    trap 'exit 130' INT TERM
    look
    exit "$last_code"
fi

sleeping=''
stop() {
    [ -z "$sleeping" ] || kill "$sleeping" 2>"$scratch/stderr" || true
    exit "$last_code"
}
trap stop INT TERM
while true; do
    if [ -t 1 ]; then
        look >"$scratch/screen" # shown when it is complete: no flicker
        printf '\e[H\e[2J\e[3J'
        cat "$scratch/screen"
    else
        look
        say
    fi
    sleep "$every" &
    sleeping=$!
    wait "$sleeping" || true
    sleeping=''
done
