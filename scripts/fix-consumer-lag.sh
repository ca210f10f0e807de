#!/usr/bin/env bash
# The consumer is behind: bring what this checkout holds to the cluster, with at least 3 pods, and see the lag fall.
#
# usage: REGISTRY=registry.example.org/team scripts/fix-consumer-lag.sh [options]
#
#   --context CONTEXT      the context of kubectl that is meant; has to be the current one
#   --namespace NAMESPACE  where the consumer runs (loom-dev)
#   --group GROUP          the consumer group whose lag is followed (kafka-to-db-consumer)
#   --command-config FILE  properties of a Kafka client, for a broker that wants TLS or a login; the file is where Kafka's
#                          command runs: here, or in the pod of deployment kafka
#   --deadline SECONDS     how long the lag may take to become healthy once the pods run (900)
#   --dry-run              say what would be done, and end
#   --yes                  don't ask; needs --context
#   --help                 this text
#
# REGISTRY, IMAGE and TAG name the image as they do for `make docker`. IMAGE is kafka-to-db-consumer unless set; TAG is
# the version and the commit, so that a new state of the checkout makes new pods.
#
# It says what it will do, and asks. Then:
#   1. make docker docker-push
#   2. helm upgrade --install kafka-to-db-consumer. The release's own values stay; of the number of pods only what is
#      below 3 is raised: the autoscaler's minimum, or without one the replicas. More pods than that stay as they are.
#      What becomes of the migration's pod is told; if it can't start for a minute (its image can't be pulled, say),
#      helm is stopped.
#   3. waits for the pods. If helm or the pods fail, it shows why and rolls back to the revision that was deployed. A
#      first install has none: it is left as it is, to be looked at, and can be tried again.
#   4. follows the lag until at most 100 messages are left, or the deadline. Where Kafka does not answer, the lag is the
#      one that the pods sample into the database.
#
# exit codes
#   0    deployed and healthy; or a dry run that has nothing against it
#   1    deployed, but the lag is not healthy at the deadline, or not known
#   2    the command line makes no sense
#   3    refused, or the answer was no: nothing was done
#   4    the image could not be built or pushed: the cluster is as it was
#   5    the deployment failed: the cluster runs the revision that it ran before
#   6    the deployment failed, and the cluster is half way: the last lines say how it stands
#   130  stopped by Ctrl-C; the last lines say how it stands, and how to go back
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
# shellcheck source=scripts/lib/consumer.sh
. "$root/scripts/lib/consumer.sh"
# shellcheck source=scripts/lib/migration.sh
. "$root/scripts/lib/migration.sh"

CHART=$root/helm/kafka-to-db-consumer
CHART=${CHART#"$PWD/"} # for people; paths in options and KUBECONFIG are the caller's, too
LEAST_PODS=3
HELM_TIMEOUT=35m    # the migration's Job may take 30 minutes
ROLLOUT_TIMEOUT=660s # longer than the Deployment's own deadline, which says more when it passes
POLL_S=3

namespace=loom-dev
group=kafka-to-db-consumer
context='' command_config='' deadline=900 dry_run='' yes=''
while [ $# -gt 0 ]; do
    case $1 in
        --context) value_of "$@"; context=$VALUE; shift ;;
        --namespace) value_of "$@"; namespace=$VALUE; shift ;;
        --group) value_of "$@"; group=$VALUE; shift ;;
        --command-config) value_of "$@"; command_config=$VALUE; shift ;;
        --deadline) value_of "$@"; whole_number --deadline "$VALUE"; deadline=$VALUE; shift ;;
        --dry-run) dry_run=yes ;;
        --yes) yes=yes ;;
        -h | --help) help_text; exit ;;
        *) fail 2 "unknown: $1; see --help" ;;
    esac
    shift
done

refuse() { fail 3 "$1; nothing was done"; }

# ------------------------------------------------------------------------------------------------------- where, what

check_place() {
    local tool current
    for tool in make helm kubectl; do
        command -v "$tool" >"$scratch/which" || refuse "$tool is not on the PATH"
    done
    command -v docker >"$scratch/which" || command -v podman >"$scratch/which" ||
        refuse 'neither docker nor podman is on the PATH'
    case $(helm upgrade --help 2>&1) in
        *reset-then-reuse-values*) ;;
        *) refuse 'helm 3.14 or newer is needed' ;;
    esac
    case $namespace in
        default | kube-*) refuse "the consumer does not belong into namespace $namespace: name another by --namespace" ;;
    esac
    capture kubectl config current-context || refuse "kubectl has no current context: $PROBLEM"
    current=$CAPTURED
    if [ -n "$context" ] && [ "$context" != "$current" ]; then
        refuse "kubectl's current context is $current, not $context: kubectl config use-context $context"
    fi
    if [ -n "$yes" ] && [ -z "$context" ]; then
        refuse "--yes needs --context: say which cluster is meant (the current context is $current)"
    fi
    confirmed=$context
    context=$current # named in every call from here on: somebody may switch it meanwhile
    choose_ways
    HELM=(helm --kube-context "$context" --namespace "$namespace")
    capture kube get namespace "$namespace" --ignore-not-found -o name || refuse "cluster $context: $PROBLEM"
    [ -n "$CAPTURED" ] || refuse "there is no namespace $namespace in $context: kubectl create namespace $namespace"
}

# revision: the release's newest; revision_status: its state; deployed: the revision that runs. Empty: there is none.
read_release() {
    revision='' revision_status='' deployed=''
    if ! capture limited "${HELM[@]}" history "$RELEASE" -o yaml; then
        case $PROBLEM in
            *'not found'*) return 0 ;;
            *) return 1 ;;
        esac
    fi
    read -r revision revision_status deployed <<EOF
$(printf '%s\n' "$CAPTURED" | awk '
    /^[- ] revision: / { revision = $NF }
    /^[- ] status: / { status = $NF; if (status == "deployed") deployed = revision }
    END { print revision, status, deployed }')
EOF
}

# setting SECTION KEY (SECTION may be empty): what the release will have unless we change it: its own, or the chart's.
# awk reads to the end: whoever stops early breaks the pipe of who still writes, which would end the script.
setting() {
    printf '%s\n' "$release_values" '# the chart:' "$chart_values" | awk -v section="$1" -v key="$2:" '
        /^[^ #]/ { inside = ($1 == section ":") }
        section == "" ? /^[^ #]/ && $1 == key : inside && /^  [^ #]/ && $1 == key { if (!found++) print $2 }'
}

at_least() { # at_least NUMBER…: the greatest of them
    local most=0 number
    for number in "$@"; do
        case $number in
            '' | *[!0-9]*) ;;
            *) if [ "$number" -gt "$most" ]; then most=$number; fi ;;
        esac
    done
    printf '%s' "$most"
}

# changes: helm's arguments for the number of pods; pods_wanted; pods_words: for people.
plan_pods() {
    local section='' minimum most now_minimum=''
    capture kube get deployment "$RELEASE" --ignore-not-found -o 'jsonpath={.spec.replicas}' || refuse "$PROBLEM"
    pods_before=${CAPTURED:-none}
    capture helm show values "$CHART" || refuse "the chart's values: $PROBLEM"
    chart_values=$CAPTURED
    release_values=''
    if [ -n "$revision" ]; then
        # Of the revision that runs: helm merges its values, and not those of a newer one that failed.
        capture limited "${HELM[@]}" get values "$RELEASE" ${deployed:+--revision "$deployed"} -o yaml ||
            refuse "the release's values: $PROBLEM"
        release_values=$CAPTURED
    fi
    if [ "$(setting keda enabled)" = true ]; then
        section=keda
    elif [ "$(setting autoscaling enabled)" = true ]; then
        section=autoscaling
        capture kube get hpa "$RELEASE" --ignore-not-found -o 'jsonpath={.spec.minReplicas}' || refuse "$PROBLEM"
        now_minimum=$CAPTURED
    fi
    changes=()
    autoscaler=$section
    if [ -n "$section" ]; then
        minimum=$(setting "$section" minReplicas) most=$(setting "$section" maxReplicas)
        pods_wanted=$(at_least "$LEAST_PODS" "$minimum" "$now_minimum")
        pods_words="the autoscaler's minimum stays $pods_wanted"
        if [ "$pods_wanted" != "$minimum" ]; then
            changes+=(--set "$section.minReplicas=$pods_wanted")
            pods_words="the autoscaler's minimum becomes $pods_wanted (its value is $minimum)"
        fi
        if [ "$pods_wanted" -gt "${most:-$pods_wanted}" ]; then
            changes+=(--set "$section.maxReplicas=$pods_wanted")
            pods_words+=", and its maximum too (is $most)"
        fi
    else
        minimum=$(setting '' replicaCount)
        pods_wanted=$(at_least "$LEAST_PODS" "$minimum" "$pods_before")
        pods_words="$pods_wanted pods, without an autoscaler"
        if [ "$pods_wanted" != "$minimum" ]; then
            changes+=(--set "replicaCount=$pods_wanted")
        fi
    fi
    pods_words+="; pods now: $pods_before"
}

name_image() {
    local commit version
    version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$root/pyproject.toml")
    commit=$(git -C "$root" rev-parse --short=12 HEAD 2>"$scratch/stderr") || commit=''
    if [ -z "$commit" ] || [ -n "$(git -C "$root" status --porcelain)" ]; then
        commit=${commit:+$commit-}changed-$(date -u +%Y%m%d%H%M%S) # this state has no other name
    fi
    REGISTRY=${REGISTRY:-} IMAGE=${IMAGE:-kafka-to-db-consumer} TAG=${TAG:-$version-$commit}
    REGISTRY=${REGISTRY%/}
    repository=${REGISTRY:+$REGISTRY/}$IMAGE
    case $repository in
        */*) ;;
        *) refuse 'where to push the image? REGISTRY=registry.example.org/team scripts/fix-consumer-lag.sh' ;;
    esac
}

# lag_words: "1234 messages behind (WARNING)", or why it is not known; lag_total is empty then.
look_at_lag() {
    local problem='' sampled=''
    lag_total='' lag_unknown=0 lag_unowned=0
    if [ -n "$kafka_by" ]; then
        if read_kafka_lag; then
            sum_up
        else
            problem="Kafka: $PROBLEM"
        fi
    fi
    if [ -z "$lag_total" ] && [ -n "$database_by" ]; then
        if read_sampled_lag; then
            sampled=yes
            sum_up
        else
            problem+="${problem:+; }database: $PROBLEM"
        fi
    fi
    if [ -z "$lag_total" ]; then
        lag_words="not known (${problem:-$kafka_missing; $database_missing})"
        return
    fi
    lag_words="$lag_total messages ($(lag_status "$lag_total"))"
    [ -z "$sampled" ] || lag_words+=", as the consumer sampled it at most $lag_age s ago"
    [ "$lag_unknown" -eq 0 ] || lag_words+=", and $lag_unknown partitions without a committed offset"
    [ "$lag_unowned" -eq 0 ] || lag_words+=", $lag_unowned partitions without a consumer"
}

# ------------------------------------------------------------------------------------------------------- failing

# helm or the pods failed. Shows why, and ends with 5 or 6.
roll_back() {
    local failed=$1 was=$deployed was_revision=$revision now
    say
    say "${RED}$failed$PLAIN"
    stage="going back, because $failed. $how_it_stands"
    kube get pods -l "app=$RELEASE" 2>&1 | sed 's/^/  /' || true
    say '  last lines of the pods:'
    kube logs -l "app=$RELEASE" --prefix --tail=5 2>&1 | sed 's/^/    /' || true
    if capture kube logs "job/$RELEASE-migration" --tail=20; then
        say '  last lines of the migration:'
        indented "$(indented "$CAPTURED")"
    fi
    read_release || fail 6 "$failed, and helm does not say how the release stands: $PROBLEM; helm history $RELEASE -n $namespace"
    if [ "$revision" = "$was_revision" ]; then
        fail 5 "$failed before it changed anything: the release is as it was (revision ${revision:-none})"
    fi
    if [ -z "$was" ]; then
        fail 6 "$failed. There is no earlier revision to go back to: the release stays at revision $revision \
($revision_status). Mend the cause and run this again, or remove it: helm uninstall $RELEASE -n $namespace"
    fi
    now=$revision
    say "Rolling back from revision $now to revision $was …"
    if ! "${HELM[@]}" rollback "$RELEASE" "$was" --timeout "$HELM_TIMEOUT"; then
        fail 6 "$failed, and the rollback failed too: the release is half way between revisions $was and $now; \
helm history $RELEASE -n $namespace"
    fi
    if [ -z "$autoscaler" ] && [ "$pods_before" != none ]; then
        # The manifest of the old revision may name fewer pods than somebody had scaled it to.
        "${KUBECTL[@]}" scale deployment "$RELEASE" --replicas="$pods_before" ||
            fail 6 "$failed. It was rolled back to revision $was, but not scaled back to $pods_before pods: kubectl scale \
deployment $RELEASE --replicas=$pods_before -n $namespace"
    fi
    if ! "${KUBECTL[@]}" rollout status "deployment/$RELEASE" --timeout="$ROLLOUT_TIMEOUT"; then
        fail 6 "$failed. It was rolled back to revision $was, but its pods don't become ready either: what they need \
may be down; kubectl logs -n $namespace -l app=$RELEASE"
    fi
    fail 5 "$failed. Rolled back: the pods of revision $was run"
}

# stage: for whoever presses Ctrl-C. follower: what is to be stopped then.
follower=''
# shellcheck disable=SC2329 # by the trap
interrupted() {
    trap - INT TERM
    stop_following
    say >&2
    fail 130 "stopped while $stage"
}
trap interrupted INT TERM

# ------------------------------------------------------------------------------------------------------- what to do

stage='looking; nothing was done'
check_place
name_image
read_release || refuse "helm: $PROBLEM"
case $revision_status in
    pending-* | uninstalling)
        refuse "release $RELEASE is $revision_status: another helm is at it, or was cut off; helm history $RELEASE -n \
$namespace, and helm rollback $RELEASE${deployed:+ $deployed} -n $namespace if nobody is"
        ;;
    *) ;;
esac
plan_pods
upgrade=("${HELM[@]}" upgrade --install "$RELEASE" "$CHART" --reset-then-reuse-values
    --set-string "image.repository=$repository" --set-string "image.tag=$TAG" --set-string image.digest=
    "${changes[@]+"${changes[@]}"}" --timeout "$HELM_TIMEOUT")
how_it_stands="How the release stands: helm history $RELEASE -n $namespace; "
if [ -n "$deployed" ]; then
    how_it_stands+="to go back: helm rollback $RELEASE $deployed -n $namespace"
    if [ -z "$autoscaler" ] && [ "$pods_before" != none ]; then
        how_it_stands+=", then kubectl scale deployment $RELEASE --replicas=$pods_before -n $namespace"
    fi
else
    how_it_stands+="there is no earlier revision to go back to; to remove it: helm uninstall $RELEASE -n $namespace"
fi
look_at_lag

say "${BOLD}What will be done$PLAIN"
say "  context    $context"
say "  namespace  $namespace"
if [ -n "$revision" ]; then
    say "  release    $RELEASE, now at revision $revision ($revision_status)"
else
    say "  release    $RELEASE, its first install"
fi
say "  image      $repository:$TAG"
say "  pods       $pods_words"
say "  lag now    $lag_words"
say '  commands   '"make docker docker-push REGISTRY=$REGISTRY IMAGE=$IMAGE TAG=$TAG"
say "             ${upgrade[*]}"
say "             kubectl rollout status deployment/$RELEASE; if it fails: helm rollback${deployed:+ to revision $deployed}"
say "             follow the lag for at most $deadline s"
if ! capture limited "${upgrade[@]}" --dry-run=server; then
    refuse "helm's own dry run fails: $PROBLEM"
fi
say "  helm's own dry run has nothing against it"
[ -z "$dry_run" ] || exit 0

if [ -z "$yes" ]; then
    [ -t 0 ] || refuse 'nobody is there to be asked: run it in a terminal, or with --yes and --context'
    if [ -n "$confirmed" ]; then
        printf '\nType yes to go on: '
        expected=yes
    else
        printf '\nType the name of the context to go on: '
        expected=$context
    fi
    read -r answer || answer=''
    [ "$answer" = "$expected" ] || refuse 'the answer was no'
fi

# ------------------------------------------------------------------------------------------------------- doing it

stage="the image was built and pushed; the cluster is as it was"
heading "Image $repository:$TAG"
(cd "$root" && make docker docker-push REGISTRY="$REGISTRY" IMAGE="$IMAGE" TAG="$TAG") ||
    fail 4 'the image could not be built and pushed; the cluster is as it was'

stage="helm was at work. $how_it_stands"
heading 'Helm'
upgrade_followed || roll_back "$helm_failed"
if [ -n "$autoscaler" ] && capture kube get deployment "$RELEASE" -o 'jsonpath={.spec.replicas}' &&
    [ "$CAPTURED" = 0 ]; then
    # An autoscaler leaves a deployment alone that somebody has scaled to 0.
    "${KUBECTL[@]}" scale deployment "$RELEASE" --replicas="$pods_wanted" ||
        roll_back 'the deployment is scaled to 0 pods, and scaling it up failed'
fi

stage="the pods started; the new revision is there. $how_it_stands"
heading 'Pods'
"${KUBECTL[@]}" rollout status "deployment/$RELEASE" --timeout="$ROLLOUT_TIMEOUT" || roll_back 'the pods did not start'

stage="the lag was followed; the new revision runs. $how_it_stands"
heading 'Lag'
ends=$((SECONDS + deadline)) first_total='' first_at=$SECONDS last_total='' looks=0
while true; do
    ready=0 looks=$((looks + 1))
    if capture kube get deployment "$RELEASE" -o 'jsonpath={.status.readyReplicas}'; then
        ready=${CAPTURED:-0}
    fi
    look_at_lag
    change=''
    if [ -n "$lag_total" ]; then
        [ -z "$last_total" ] || change=$(printf ', %+d' "$((lag_total - last_total))")
        last_total=$lag_total
        [ -n "$first_total" ] || first_total=$lag_total first_at=$SECONDS
    fi
    say "  $(date -u +%H:%M:%S)  $ready of at least $pods_wanted pods ready; lag: $lag_words$change"
    if [ "$ready" -ge "$pods_wanted" ] && [ -n "$lag_total" ] && [ "$lag_total" -le 100 ] &&
        [ "$lag_unknown" -eq 0 ] && [ "$lag_unowned" -eq 0 ] && [ "$lag_age" -le "$SAMPLES_FRESH_S" ]; then
        say
        say "${GREEN}Healthy$PLAIN: $ready pods, $lag_words"
        exit 0
    fi
    # One look alone does not tell whether it falls.
    [ "$SECONDS" -lt "$ends" ] || [ "$looks" -lt 2 ] || break
    sleep "$POLL_S" &
    wait $! || true
done

if [ -z "$last_total" ]; then
    fail 1 "deployed, but the lag is $lag_words"
fi
fallen=$((first_total - last_total)) seconds=$((SECONDS - first_at))
if [ "$fallen" -gt 0 ] && [ "$seconds" -gt 0 ]; then
    fail 1 "deployed, and not healthy after $deadline s: $ready pods ready, lag $lag_words. It falls: by $fallen in \
$seconds s, so about $((last_total * seconds / fallen / 60 + 1)) minutes more; scripts/monitor-consumer-lag.sh --watch"
fi
fail 1 "deployed, and not healthy after $deadline s: $ready pods ready, lag $lag_words. It does not fall: see docs/lag.md"
