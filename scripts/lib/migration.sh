# shellcheck shell=bash
# shellcheck disable=SC2034,SC2154 # what is set here is read there, and the other way round
# Helm says nothing while the migration's Job runs, and waits as long as the Job may take, also for an image that nobody
# can pull. What fix-consumer-lag.sh tells meanwhile, and when it waits no longer.

STUCK_S=60 # a registry may be away for a moment; a name that is wrong stays wrong
TELL_S=15

# CAPTURED: "name|phase|why it waits|the same in words" of each pod of the migration.
migration_pods() {
    capture kube get pods -l "app.kubernetes.io/instance=$RELEASE,app.kubernetes.io/component=migration" -o 'jsonpath={range .items[*]}{.metadata.name}|{.status.phase}|{.status.containerStatuses[*].state.waiting.reason}|{.status.containerStatuses[*].state.waiting.message}{.status.conditions[?(@.reason=="Unschedulable")].message}{"\n"}{end}'
}

# upgrade_followed: helm's upgrade, while somebody tells of the migration. When it fails, helm_failed says what did.
upgrade_followed() {
    local status=0 earlier=''
    if migration_pods; then
        earlier=$(printf '%s\n' "$CAPTURED" | cut -d '|' -f 1 | tr '\n' ' ')
    fi
    follow_migration "$earlier" &
    follower=$!
    # Helm runs in the foreground, where Ctrl-C reaches it. Its number is for the follower.
    # shellcheck disable=SC2016 # expanded there
    sh -c 'echo $$ >"$0"; exec "$@"' "$scratch/helm" "${upgrade[@]}" || status=$?
    stop_following
    helm_failed='helm upgrade failed'
    if [ -e "$scratch/stuck" ]; then
        helm_failed="helm upgrade was stopped, because $(cat "$scratch/stuck")"
    fi
    return "$status"
}

stop_following() {
    [ -n "$follower" ] || return 0
    kill "$follower" 2>"$scratch/stderr" || true
    wait "$follower" 2>"$scratch/stderr" || true
    follower=''
}

# follow_migration EARLIER: until it is killed, tells each change of the pods that are not among the earlier ones, and
# every 15 seconds that there is none. A pod that can't start for a minute is a reason to stop helm, which then fails.
follow_migration() {
    local earlier=$1 pods='no pod yet' told='no pod yet' told_at=$SECONDS stuck='' stuck_pod='' stuck_since=0
    local name phase reason words why
    while sleep "$POLL_S" >"$scratch/asleep" 2>&1; do
        if migration_pods; then
            pods='' stuck=''
            while IFS='|' read -r name phase reason words; do
                [ -n "$name" ] || continue # of no pod at all there is one empty line
                case " $earlier" in *" $name "*) continue ;; esac
                why=${reason:+: $reason}${words:+: $words}
                pods+="${pods:+; }$name $phase${why:0:300}"
                case $reason in
                    ErrImagePull | ImagePullBackOff | ErrImageNeverPull | InvalidImageName | ImageInspectError | \
                        CreateContainerConfigError)
                        stuck=$name
                        [ "$stuck" = "$stuck_pod" ] || stuck_pod=$stuck stuck_since=$SECONDS
                        ;;
                esac
            done <<<"$CAPTURED"
            pods=${pods:-no pod yet}
            [ -n "$stuck" ] || stuck_pod=''
        fi
        if [ "$pods" != "$told" ] || [ $((SECONDS - told_at)) -ge "$TELL_S" ]; then
            say "  $(date -u +%H:%M:%S)  migration: $pods"
            told=$pods told_at=$SECONDS
        fi
        if [ -n "$stuck" ] && [ $((SECONDS - stuck_since)) -ge "$STUCK_S" ]; then
            say "the migration's pod can't start, for $STUCK_S s now: $pods" >"$scratch/stuck"
            kill "$(cat "$scratch/helm")" 2>"$scratch/stderr" || true
            return
        fi
    done
}
