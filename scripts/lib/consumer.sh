# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what is set here is read there, and the other way round
# What monitor-consumer-lag.sh and fix-consumer-lag.sh share: how they speak, and how they reach the cluster, the
# database and Kafka. The sourcing script sets `group`, `namespace` and (may be empty) `context` and `command_config`
# before choose_ways.
#
# Functions that look at something answer in variables, because a subshell could not: CAPTURED or LAG_ROWS when they
# succeed, PROBLEM (one line) when they don't.

RELEASE=kafka-to-db-consumer # Helm release, Deployment, autoscaler, and the pods' label app
DATABASE_DEPLOYMENT=timescaledb
KAFKA_DEPLOYMENT=kafka
KAFKA_IN_CLUSTER=kafka:9092 # where the consumer's own Deployment names no other
ANSWER_WITHIN_S=20          # for each single call
SAMPLES_FRESH_S=90          # the pods write one every 60 s at most, and none while they don't reach the broker

# ---------------------------------------------------------------------------------------------------------- speaking

BOLD='' RED='' GREEN='' YELLOW='' PLAIN=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
    BOLD=$'\e[1m' RED=$'\e[31m' GREEN=$'\e[32m' YELLOW=$'\e[33m' PLAIN=$'\e[0m'
fi

# What can't be written, on a full disk for example, ends nothing: least of all a deployment that is half way.
say() { printf '%s\n' "$*" || true; }
heading() { printf '\n%s%s%s\n' "$BOLD" "$*" "$PLAIN" || true; }
warn() { printf '  %s%s%s\n' "$YELLOW" "$*" "$PLAIN" || true; }
indented() { printf '%s\n' "$1" | sed 's/^ *$//; s/^/  /; s/ *$//' || true; }

# fail CODE WORDS: one line on stderr, and the end.
fail() {
    printf '%s: %s\n' "${0##*/}" "$2" >&2
    exit "$1"
}

# Prints the comment at the top of the script: its help.
help_text() { sed -n '2,/^[^#]/ { s/^# \{0,1\}//p; }' "$0"; }

# value_of OPTION VALUE…: the option's value in VALUE; ends with 2 when there is none.
value_of() {
    case ${2:-} in
        '' | -*) fail 2 "$1 needs a value; see --help" ;;
        *) VALUE=$2 ;;
    esac
}

# whole_number OPTION VALUE: ends with 2 unless it is one, from 1 on.
whole_number() {
    case $2 in
        '' | *[!0-9]* | 0*) fail 2 "$1 takes a whole number of seconds, from 1 on; not '$2'" ;;
    esac
}

# lag_status MESSAGES: the word for it, with the thresholds of the view v_consumer_performance_monitor.
lag_status() {
    if [ "$1" -le 100 ]; then
        printf HEALTHY
    elif [ "$1" -le 1000 ]; then
        printf WATCH
    elif [ "$1" -le 10000 ]; then
        printf WARNING
    else
        printf CRITICAL
    fi
}

# ---------------------------------------------------------------------------------------------------------- running

scratch=$(mktemp -d "${TMPDIR:-/tmp}/consumer-lag.XXXXXX" 2>/dev/null) ||
    fail 3 "there is no place for temporary files in ${TMPDIR:-/tmp}; nothing was done"
trap 'rm -rf "$scratch"' EXIT

# GNU's timeout bounds a call that hangs, as `kubectl exec` may. In the foreground: Ctrl-C has to reach what it runs.
LIMIT=()
if timeout --foreground 1 true 2>"$scratch/stderr"; then
    LIMIT=(timeout --foreground "$ANSWER_WITHIN_S")
fi

limited() { "${LIMIT[@]+"${LIMIT[@]}"}" "$@"; }

# capture COMMAND…: its output in CAPTURED. If it fails, returns its code, and PROBLEM says in one line why.
capture() {
    local status=0
    CAPTURED=$("$@" 2>"$scratch/stderr") || status=$?
    [ "$status" -eq 0 ] && return 0
    # Not kubectl's asides, nor the lines of its log that come before what it has to say.
    PROBLEM=$(grep -v -e '^[EWI][0-9]\{4\} ' -e '^Defaulted container' -e '^command terminated' -e '^LINE ' \
        -e '^ *^$' "$scratch/stderr" | sed 's/^psql:<stdin>:[0-9]*: //; s/^psql: error: //' | head -n 3 | tr -s '[:space:]' ' ' | cut -c 1-300) || true
    if [ "$status" -eq 124 ]; then
        PROBLEM="no answer within $ANSWER_WITHIN_S s"
    elif [ -z "$PROBLEM" ]; then
        PROBLEM="$(basename "$1") ended with $status and said nothing"
    fi
    PROBLEM=${PROBLEM% }
    return "$status"
}

# ---------------------------------------------------------------------------------------------------------- ways

# Decides once how each part is reached: database_by and kafka_by are `here`, `cluster` or empty, cluster_by is
# `kubectl` or empty. For an empty one, database_missing, kafka_missing or cluster_missing say what is missing.
choose_ways() {
    cluster_by='' cluster_missing='kubectl is not on the PATH'
    KUBECTL=(kubectl ${context:+--context "$context"} --namespace "$namespace")
    if command -v kubectl >"$scratch/which"; then
        # In a pod kubectl needs no context.
        if [ -n "${KUBERNETES_SERVICE_HOST:-}" ] || kubectl config current-context >"$scratch/which" 2>&1; then
            cluster_by=kubectl
        else
            cluster_missing='kubectl has no current context'
        fi
    fi

    database_by='' database_missing="$cluster_missing, and LOOM_DATABASE_URL is not set"
    if [ -n "${LOOM_DATABASE_URL:-}" ] && command -v psql >"$scratch/which"; then
        database_by=here
        export_libpq "$LOOM_DATABASE_URL"
    elif [ -n "$cluster_by" ]; then
        database_by=cluster
    elif [ -n "${LOOM_DATABASE_URL:-}" ]; then
        database_missing="LOOM_DATABASE_URL is set, but psql is not on the PATH"
    fi

    kafka_by='' kafka_missing="$cluster_missing, and LOOM_KAFKA_BOOTSTRAP_SERVERS is not set"
    kafka_tool=$(command -v kafka-consumer-groups.sh || command -v kafka-consumer-groups || true)
    if [ -n "${LOOM_KAFKA_BOOTSTRAP_SERVERS:-}" ] && [ -n "$kafka_tool" ]; then
        kafka_by=here
        [ -z "$command_config" ] || [ -r "$command_config" ] || fail 2 "--command-config: can't read $command_config"
    elif [ -n "$cluster_by" ]; then
        kafka_by=cluster
    elif [ -n "${LOOM_KAFKA_BOOTSTRAP_SERVERS:-}" ]; then
        kafka_missing="LOOM_KAFKA_BOOTSTRAP_SERVERS is set, but kafka-consumer-groups.sh is not on the PATH"
    fi
}

kube() { limited "${KUBECTL[@]}" --request-timeout=10s "$@"; }

# ---------------------------------------------------------------------------------------------------------- database

percent_decoded() {
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}"
}

# Exports what the URL says as libpq's variables: on a command line every user of the machine could read the password.
export_libpq() {
    local rest=${1#*://} parameters='' login='' host hosts='' ports='' pair name
    case $rest in *\?*) parameters=${rest#*\?} rest=${rest%%\?*} ;; esac
    export PGHOST PGPORT PGUSER PGPASSWORD PGDATABASE PGAPPNAME PGCONNECT_TIMEOUT
    case $rest in */*) PGDATABASE=$(percent_decoded "${rest#*/}") rest=${rest%%/*} ;; esac
    case $rest in *@*) login=${rest%@*} rest=${rest##*@} ;; esac
    if [ -n "$login" ]; then
        PGUSER=$(percent_decoded "${login%%:*}")
        case $login in *:*) PGPASSWORD=$(percent_decoded "${login#*:}") ;; esac
    fi
    if [ -n "$rest" ]; then
        while [ -n "$rest" ]; do # several hosts, each with its port: libpq takes two lists
            host=${rest%%,*}
            case $rest in *,*) rest=${rest#*,} ;; *) rest='' ;; esac
            case $host in
                \[*\]:*) hosts+=,${host%]:*} ports+=,${host##*]:} ;;
                *:*[!0-9]*) hosts+=,$host ports+=,5432 ;;
                *:*) hosts+=,${host%:*} ports+=,${host##*:} ;;
                *) hosts+=,$host ports+=,5432 ;;
            esac
        done
        hosts=${hosts//[\[\]]/}
        PGHOST=$(percent_decoded "${hosts#,}") PGPORT=${ports#,}
    fi
    while [ -n "$parameters" ]; do
        pair=${parameters%%&*}
        case $parameters in *\&*) parameters=${parameters#*&} ;; *) parameters='' ;; esac
        name=${pair%%=*}
        case $name in
            *[!a-z_]* | application_name | '') continue ;; # ours is below
            dbname) name=database ;;
            connect_timeout) ;;
            *) name=${name//_/} ;; # target_session_attrs is PGTARGETSESSIONATTRS
        esac
        name=PG$(printf '%s' "$name" | tr '[:lower:]' '[:upper:]')
        export "$name=$(percent_decoded "${pair#*=}")"
    done
    PGAPPNAME=consumer-lag # not one of the pool's, which have "kafka" in theirs
    PGCONNECT_TIMEOUT=${PGCONNECT_TIMEOUT:-5}
}

# sql [OPTIONS OF PSQL] <<<STATEMENT: runs it where the database is. :'group' stands for the consumer group.
sql() {
    local psql=(psql -X -q -w -v ON_ERROR_STOP=1 -v "group=$group" -P null=- -P footer=off "$@")
    { printf "SET statement_timeout TO '10s';\n" && cat; } | if [ "$database_by" = here ]; then
        limited "${psql[@]}" -f -
    else
        limited "${KUBECTL[@]}" exec -i "deployment/$DATABASE_DEPLOYMENT" -- "${psql[@]}" -U loom -d loom -f -
    fi
}

# ---------------------------------------------------------------------------------------------------------- lag

# Runs Kafka's command for groups where Kafka is. In the cluster the brokers' address is the one that the pods use.
kafka_groups() {
    local servers
    set -- --timeout 10000 ${command_config:+--command-config "$command_config"} "$@"
    if [ "$kafka_by" = here ]; then
        limited "$kafka_tool" --bootstrap-server "$LOOM_KAFKA_BOOTSTRAP_SERVERS" "$@"
        return
    fi
    servers=$(kube get deployment "$RELEASE" --ignore-not-found -o jsonpath="{.spec.template.spec.containers[*].env[?(@.name=='LOOM_KAFKA_BOOTSTRAP_SERVERS')].value}") || return
    # The official images don't have it on the PATH. With JMX_PORT of the broker it would want the broker's port.
    # shellcheck disable=SC2016 # expanded there
    limited "${KUBECTL[@]}" exec "deployment/$KAFKA_DEPLOYMENT" -- sh -c \
        'unset JMX_PORT; PATH=$PATH:/opt/kafka/bin:/opt/bitnami/kafka/bin; exec kafka-consumer-groups.sh "$@"' \
        kafka-consumer-groups.sh --bootstrap-server "${servers:-$KAFKA_IN_CLUSTER}" "$@"
}

# LAG_ROWS: "topic partition committed end lag client" a line, - for what is not known. Fails with PROBLEM; with 2
# when the broker answered, but knows no such group.
read_kafka_lag() {
    local error
    capture kafka_groups --describe --group "$group" || return 1
    # The command ends with 0 whatever happens; its first line tells.
    error=$(printf '%s\n' "$CAPTURED" | sed -n 's/^Error: *//p' | cut -c 1-300)
    case $error in
        *GroupIdNotFoundException* | *'does not exist'*)
            PROBLEM="the broker knows no group $group: no consumer has joined it yet"
            return 2
            ;;
        ?*)
            PROBLEM=${error##*org.apache.kafka.common.errors.}
            return 1
            ;;
    esac
    LAG_ROWS=$(printf '%s\n' "$CAPTURED" | awk '
        column["TOPIC"] && NF {
            committed = $column["CURRENT-OFFSET"]; end = $column["LOG-END-OFFSET"]; lag = $column["LAG"]
            if (lag == "-" && end == "0") lag = 0  # nothing was ever sent to it
            print $column["TOPIC"], $column["PARTITION"], committed, end, lag, $column["CLIENT-ID"]
        }
        $1 == "GROUP" { for (i = 1; i <= NF; i++) column[$i] = i }' | sort -k 1,1 -k 2,2n)
    if [ -z "$LAG_ROWS" ]; then
        PROBLEM="kafka-consumer-groups.sh printed no partitions: $(printf '%s' "$CAPTURED" | tr -s '[:space:]' ' ' | cut -c 1-200)"
        return 1
    fi
}

# The same from the newest sample of each partition, and how many seconds old it is. It does not know who owns a partition.
read_sampled_lag() {
    capture sql -A -t -F ' ' <<'SQL' || return 1
SELECT topic, partition, coalesce(current_offset::text, '-'), log_end_offset, coalesce(lag::text, '-'), '?',
    extract(epoch FROM now() - sampled_at)::integer
FROM v_consumer_lag_now
WHERE consumer_group = :'group'
ORDER BY topic, partition;
SQL
    LAG_ROWS=$CAPTURED
    if [ -z "$LAG_ROWS" ]; then
        PROBLEM="no pod of group $group has written a sample of its lag"
        return 1
    fi
}

# sum_up: from LAG_ROWS: lag_total (of the partitions whose lag is known), lag_partitions, lag_unknown (partitions),
# lag_unowned (partitions without a member), lag_age (seconds, of the oldest sample; 0: Kafka itself was asked).
sum_up() {
    read -r lag_total lag_partitions lag_unknown lag_unowned lag_age <<EOF
$(printf '%s\n' "$LAG_ROWS" | awk '
    { partitions++; if ($5 == "-") unknown++; else total += $5 }
    $6 == "-" { unowned++ }
    $7 > age { age = $7 }
    END { printf "%.0f %d %d %d %d\n", total, partitions, unknown, unowned, age }')
EOF
}
