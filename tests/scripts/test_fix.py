"""``scripts/fix-consumer-lag.sh`` changes only what it said, where it was meant, and never ends half way in silence.

make, docker, helm and kubectl are stand-ins that record their calls; Kafka, the database and the consumer are real.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.scripts.conftest import CONTEXT, NAME, Consumer, played_kafka, sample
from tests.scripts.programs import Done, Programs, press_ctrl_c
from tests.support.database import ROOT
from tests.support.waiting import eventually

SCRIPT = "fix-consumer-lag.sh"
DONE, BEHIND, USAGE, REFUSED, NO_IMAGE, ROLLED_BACK, HALF_WAY, STOPPED = 0, 1, 2, 3, 4, 5, 6, 130

GO = ("--yes", "--context", CONTEXT)
HERE = f"--context {CONTEXT} --namespace loom-dev"
HELM_HERE = f"--kube-context {CONTEXT} --namespace loom-dev"
IMAGE = {"REGISTRY": "registry.example.org/team", "TAG": "t1"}

UPGRADE = f"{HELM_HERE} upgrade --install kafka-to-db-consumer helm/kafka-to-db-consumer .*"
CHART_VALUES = (ROOT / "helm" / "kafka-to-db-consumer" / "values.yaml").read_text()
MIGRATION_PODS = f"{HERE} .*get pods -l app.kubernetes.io/instance={NAME},app.kubernetes.io/component=migration .*"
NO_RELEASE = {"code": 1, "err": "Error: release: not found\n"}


def history(*revisions: tuple[int, str]) -> dict[str, str]:
    """As ``helm history -o yaml`` prints it; a description may hold anything."""
    return {
        "out": "".join(
            f"- app_version: 0.1.0\n  chart: kafka-to-db-consumer-0.1.0\n  description: |-\n    failed:\n"
            f'    status: odd\n  revision: {number}\n  status: {status}\n  updated: "2026-11-26T10:00:00Z"\n'
            for number, status in revisions
        )
    }


UPGRADED = history((4, "deployed")), history((4, "superseded"), (5, "deployed"))
"""Before the upgrade and after it."""
OFF = "autoscaling:\n  enabled: false\n"
"""Values of a release without an autoscaler."""


@pytest.fixture
def platform(programs: Programs) -> Iterator[Programs]:
    """A cluster whose release is at revision 4, with the chart's own values, three pods and a small lag."""
    programs.stand_in("kubectl", "helm", "make", "docker")
    programs.on("kubectl", "config current-context", {"out": f"{CONTEXT}\n"})
    programs.on("helm", "upgrade --help", {"out": "  --reset-then-reuse-values\n"})
    programs.on("helm", "show values helm/kafka-to-db-consumer", {"out": CHART_VALUES})
    programs.on("helm", f"{HELM_HERE} history .*", history((3, "superseded"), (4, "deployed")))
    programs.on("helm", f"{HELM_HERE} get values .*", {"out": "null\n"})
    programs.on("helm", f"{UPGRADE} --dry-run=server")
    programs.on("helm", UPGRADE)
    programs.on("helm", f"{HELM_HERE} rollback kafka-to-db-consumer .*")
    programs.on("make", "docker docker-push .*")
    programs.on("kubectl", f"{HERE} .*get namespace loom-dev .*", {"out": "namespace/loom-dev\n"})
    programs.on("kubectl", f"{HERE} .*get deployment .*spec.replicas.*", {"out": "3"})
    programs.on("kubectl", f"{HERE} .*get hpa .*spec.minReplicas.*", {"out": "3"})
    programs.on("kubectl", f"{HERE} .*get deployment .*readyReplicas.*", {"out": "3"})
    programs.on("kubectl", f"{HERE} .*get pods -l app=.*", {"out": "kafka-to-db-consumer-a 0/1\n"})
    programs.on("kubectl", MIGRATION_PODS)
    programs.on("kubectl", f"{HERE} .*logs -l app=.*", {"out": "last words of a pod\n"})
    programs.on("kubectl", f"{HERE} .*logs job/.*", {"code": 1, "err": "Error from server (NotFound)\n"})
    programs.on("kubectl", f"{HERE} rollout status .*")
    programs.on("kubectl", f"{HERE} scale deployment .*")
    programs.on("kubectl", f"{HERE} exec -i deployment/timescaledb .*", {"code": 1, "err": "Error: NotFound\n"})
    played_kafka(programs)
    yield programs


def changes(programs: Programs) -> list[str]:
    """The calls that changed something outside, in order of program."""
    helm = [call for call in programs.calls("helm") if re.search(" (upgrade|rollback) ", call)]
    kubectl = [call for call in programs.calls("kubectl") if re.search(" (scale|apply|delete|patch) ", call)]
    return programs.calls("make") + [call for call in helm if "--dry-run" not in call] + kubectl


def run(programs: Programs, *arguments: str, **variables: str) -> Done:
    return programs.run(SCRIPT, *(arguments or GO), **IMAGE | variables)


async def test_it_builds_deploys_and_follows_the_lag_until_it_is_healthy(
    consumer: Consumer, platform: Programs
) -> None:
    """The pods that helm brings are played by a real service, which starts when helm has been called."""
    await consumer.produce(1)
    consumer.start()
    await consumer.caught_up()
    consumer.stop()
    await consumer.produce(3000)
    platform.on("helm", f"{HELM_HERE} history .*", NO_RELEASE, first=True)
    process = platform.start(SCRIPT, *GO, "--group", consumer.group, **IMAGE | consumer.variables)

    async def deployed() -> bool:
        return any("--dry-run" not in call for call in platform.calls("helm") if "upgrade --install" in call)

    await eventually(deployed, within_s=60)
    consumer.start()
    out, err = process.communicate(timeout=90)
    assert process.returncode == DONE, out + err
    assert "lag now    3000 messages (WARNING), 15 partitions without a consumer" in out
    assert re.search(r"lag: 3000 messages .*\n(.*\n)*.*, -3000\n", out) or "lag: 0 messages" in out
    assert re.search(r"\nHealthy: 3 pods, 0 messages \(HEALTHY\)\n$", out), out
    assert "its first install" in out
    assert changes(platform) == [
        "docker docker-push REGISTRY=registry.example.org/team IMAGE=kafka-to-db-consumer TAG=t1",
        f"{HELM_HERE} upgrade --install kafka-to-db-consumer helm/kafka-to-db-consumer --reset-then-reuse-values"
        " --set-string image.repository=registry.example.org/team/kafka-to-db-consumer --set-string image.tag=t1"
        " --set-string image.digest= --timeout 35m",
    ]
    assert f"{HERE} rollout status deployment/kafka-to-db-consumer --timeout=660s" in platform.calls("kubectl")


def test_a_dry_run_says_all_and_changes_nothing(platform: Programs) -> None:
    done = run(platform, "--dry-run")
    assert (done.code, done.err) == (DONE, "")
    assert changes(platform) == []
    assert f"context    {CONTEXT}\n  namespace  loom-dev\n" in done.out
    assert "now at revision 4 (deployed)" in done.out
    assert "image      registry.example.org/team/kafka-to-db-consumer:t1" in done.out
    assert "pods       the autoscaler's minimum stays 3; pods now: 3" in done.out
    assert "lag now    0 messages (HEALTHY)" in done.out
    assert "upgrade --install kafka-to-db-consumer helm/kafka-to-db-consumer" in done.out
    assert "helm's own dry run has nothing against it" in done.out


def test_each_state_of_the_checkout_has_a_tag_of_its_own(platform: Programs) -> None:
    done = platform.run(SCRIPT, "--dry-run", REGISTRY="registry.example.org/team/")
    assert re.search(r"image +registry.example.org/team/kafka-to-db-consumer:\d+\.\d+\.\d+-\w+", done.out), done.said


@pytest.mark.parametrize(
    ("arguments", "rule", "says"),
    [
        (["--yes"], None, "--yes needs --context: say which cluster is meant (the current context is k3d-loom)"),
        (["--yes", "--context", "production"], None, "kubectl's current context is k3d-loom, not production"),
        ([*GO, "--namespace", "kube-system"], None, "does not belong into namespace kube-system"),
        ([*GO, "--namespace", "default"], None, "does not belong into namespace default"),
        (GO, ("kubectl", ".*get namespace.*", {"out": ""}), "there is no namespace loom-dev in k3d-loom"),
        (GO, ("kubectl", ".*get namespace.*", {"code": 1, "err": "refused\n"}), "cluster k3d-loom: refused"),
        (GO, ("kubectl", "config current-context", {"code": 1, "err": "none\n"}), "has no current context: none"),
        (GO, ("helm", "upgrade --help", {"out": "--reuse-values"}), "helm 3.14 or newer is needed"),
        (GO, ("helm", ".* history .*", {"code": 1, "err": "Error: forbidden\n"}), "helm: Error: forbidden"),
        (
            GO,
            ("helm", ".* history .*", history((4, "deployed"), (5, "pending-upgrade"))),
            "is pending-upgrade: another helm is at it, or was cut off; helm history kafka-to-db-consumer -n loom-dev, "
            "and helm rollback kafka-to-db-consumer 4 -n loom-dev if nobody is",
        ),
        (GO, ("helm", "show values .*", {"code": 1, "err": "Error: broken\n"}), "the chart's values: Error: broken"),
        (
            GO,
            ("helm", ".* --dry-run=server", {"code": 1, "err": "Error: no Secret timescaledb-credentials\n"}),
            "helm's own dry run fails: Error: no Secret timescaledb-credentials",
        ),
        (["--context", CONTEXT], None, "nobody is there to be asked"),
    ],
)  # fmt: skip
def test_it_refuses_before_anything_is_done(
    arguments: list[str], rule: tuple[str, str, dict[str, Any]] | None, says: str, platform: Programs
) -> None:
    if rule:
        platform.on(*rule, first=True)
    done = run(platform, *arguments)
    assert done.code == REFUSED, done.said
    assert says in done.err
    assert done.err.endswith("; nothing was done\n")
    assert done.err.count("\n") == 1
    assert changes(platform) == []


@pytest.mark.parametrize(("missing", "says"), [("helm", "helm is not on"), ("docker", "neither docker nor podman")])
def test_it_refuses_without_its_tools(missing: str, says: str, platform: Programs) -> None:
    platform.remove(missing)
    done = run(platform)
    assert (done.code, changes(platform)) == (REFUSED, [])
    assert says in done.err


def test_it_refuses_an_image_that_could_be_pushed_nowhere(platform: Programs) -> None:
    done = platform.run(SCRIPT, *GO)
    assert (done.code, changes(platform)) == (REFUSED, [])
    assert "where to push the image? REGISTRY=" in done.err


def test_it_refuses_where_it_can_keep_no_notes(platform: Programs) -> None:
    done = run(platform, TMPDIR="/no/such/directory")
    assert (done.code, done.out, platform.all_calls()) == (REFUSED, "", [])
    assert done.err.endswith("there is no place for temporary files in /no/such/directory; nothing was done\n")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "typed", "question"),
    [
        ([], f"{CONTEXT}\n", "Type the name of the context to go on:"),
        (["--context", CONTEXT], "yes\n", "Type yes to go on:"),
    ],
)
def test_it_asks_and_goes_on_after_the_right_answer(
    arguments: list[str], typed: str, question: str, platform: Programs
) -> None:
    done = platform.run_in_terminal(SCRIPT, *arguments, typed=typed, **IMAGE)
    assert question in done.out
    assert done.code == DONE, done.out
    assert len(changes(platform)) == 2


@pytest.mark.parametrize(("arguments", "typed"), [([], "yes\n"), ([], "\n"), (["--context", CONTEXT], "y\n")])
def test_any_other_answer_is_no(arguments: list[str], typed: str, platform: Programs) -> None:
    done = platform.run_in_terminal(SCRIPT, *arguments, typed=typed, **IMAGE)
    assert "the answer was no; nothing was done" in done.out
    assert (done.code, changes(platform)) == (REFUSED, [])


def test_it_may_be_started_from_anywhere(platform: Programs) -> None:
    platform.on("helm", f"show values {ROOT}/helm/kafka-to-db-consumer", {"out": CHART_VALUES})
    platform.on("helm", UPGRADE.replace(" helm/", f" {ROOT}/helm/"))
    for arguments, said in (("--help", "usage: REGISTRY="), (f"--dry-run {' '.join(GO)}", "has nothing against it")):
        process = platform.start_bash("-c", f"cd scripts && ./{SCRIPT} {arguments}", **IMAGE)
        out, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (DONE, "")
        assert said in out


def test_a_log_on_a_full_disk_ends_no_deployment_half_way(platform: Programs) -> None:
    command = f"'{ROOT}/scripts/{SCRIPT}' {' '.join(GO)} > /dev/full"
    process = platform.start_bash("-c", command, **IMAGE)
    _, err = process.communicate(timeout=60)
    assert process.returncode == DONE, err
    assert len(changes(platform)) == 2


def test_an_image_that_can_not_be_built_leaves_the_cluster_alone(platform: Programs) -> None:
    platform.on("make", ".*", {"code": 2, "err": "no space left on device\n"}, first=True)
    done = run(platform)
    assert done.code == NO_IMAGE
    assert done.err.endswith("the image could not be built and pushed; the cluster is as it was\n")
    assert len(changes(platform)) == 1


def test_a_failed_rollout_is_rolled_back_to_the_revision_that_was_deployed(platform: Programs) -> None:
    before, after = history((3, "deployed"), (4, "failed")), history((3, "superseded"), (4, "failed"), (5, "deployed"))
    platform.on("helm", ".* history .*", before, after, first=True)
    platform.on("kubectl", ".*rollout status .*", {"code": 1, "err": "error: timed out\n"}, {}, first=True)
    done = run(platform)
    assert done.code == ROLLED_BACK, done.said
    assert changes(platform)[-1] == f"{HELM_HERE} rollback kafka-to-db-consumer 3 --timeout 35m"
    assert "last words of a pod" in done.out
    assert done.err.endswith("the pods did not start. Rolled back: the pods of revision 3 run\n")


def test_a_failed_migration_is_shown_and_rolled_back(platform: Programs) -> None:
    platform.on("helm", UPGRADE, {"code": 1, "err": "Error: UPGRADE FAILED: pre-upgrade hooks failed\n"}, first=True)
    platform.on("helm", f"{UPGRADE} --dry-run=server", first=True)
    platform.on("helm", ".* history .*", history((4, "deployed")), history((4, "deployed"), (5, "failed")), first=True)
    platform.on("kubectl", ".*logs job/kafka-to-db-consumer-migration.*", {"out": "no such table\n"}, first=True)
    done = run(platform)
    assert done.code == ROLLED_BACK, done.said
    assert "no such table" in done.out
    assert changes(platform)[-1] == f"{HELM_HERE} rollback kafka-to-db-consumer 4 --timeout 35m"


def test_helm_that_fails_before_a_revision_needs_no_rollback(platform: Programs) -> None:
    platform.on("helm", UPGRADE, {"code": 1, "err": "Error: timed out\n"}, first=True)
    platform.on("helm", f"{UPGRADE} --dry-run=server", first=True)
    done = run(platform)
    assert done.code == ROLLED_BACK
    assert done.err.endswith("before it changed anything: the release is as it was (revision 4)\n")
    assert not any("rollback" in call for call in changes(platform))


def test_pods_scaled_by_hand_are_as_many_after_a_rollback(platform: Programs) -> None:
    platform.on("helm", ".* get values .*", {"out": OFF}, first=True)
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": "10"}, first=True)
    platform.on("helm", ".* history .*", *UPGRADED, first=True)
    platform.on("kubectl", ".*rollout status .*", {"code": 1}, {}, first=True)
    assert run(platform).code == ROLLED_BACK
    assert changes(platform)[-1] == f"{HERE} scale deployment kafka-to-db-consumer --replicas=10"


def test_pods_that_can_not_be_scaled_back_after_a_rollback_are_said(platform: Programs) -> None:
    platform.on("helm", ".* get values .*", {"out": OFF}, first=True)
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": "10"}, first=True)
    platform.on("kubectl", ".* scale deployment .*", {"code": 1, "err": "error: forbidden\n"}, first=True)
    platform.on("helm", ".* history .*", *UPGRADED, first=True)
    platform.on("kubectl", ".*rollout status .*", {"code": 1}, {}, first=True)
    done = run(platform)
    assert done.code == HALF_WAY, done.said
    assert done.err.endswith(
        "It was rolled back to revision 4, but not scaled back to 10 pods: "
        "kubectl scale deployment kafka-to-db-consumer --replicas=10 -n loom-dev\n"
    )


def test_a_first_install_that_fails_stays_to_be_looked_at_and_says_so(platform: Programs) -> None:
    platform.on("helm", ".* history .*", NO_RELEASE, history((1, "deployed")), first=True)
    platform.on("kubectl", ".*rollout status .*", {"code": 1}, first=True)
    done = run(platform)
    assert done.code == HALF_WAY
    assert "There is no earlier revision to go back to: the release stays at revision 1 (deployed)" in done.err
    assert "helm uninstall kafka-to-db-consumer -n loom-dev" in done.err
    assert len(changes(platform)) == 2


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        (("helm", ".* rollback .*", {"code": 1}), "the rollback failed too: the release is half way between revisions"),
        (("kubectl", ".*rollout status .*", {"code": 1}), "but its pods don't become ready either"),
    ],
)
def test_a_rollback_that_fails_says_how_things_stand(
    rule: tuple[str, str, dict[str, Any]], says: str, platform: Programs
) -> None:
    platform.on("kubectl", ".*rollout status .*", {"code": 1}, {}, first=True)
    platform.on("helm", ".* history .*", *UPGRADED, first=True)
    platform.on(*rule, first=True)
    done = run(platform)
    assert done.code == HALF_WAY
    assert says in done.err


def test_a_lag_that_does_not_fall_is_said_at_the_deadline(platform: Programs) -> None:
    played_kafka_first(platform, 5000)
    done = run(platform, *GO, "--deadline", "1")
    assert done.code == BEHIND
    assert done.err.endswith("lag 5000 messages (WARNING). It does not fall: see docs/lag.md\n")


def test_a_lag_that_falls_too_slowly_is_told_with_what_it_will_take(platform: Programs) -> None:
    played_kafka_first(platform, 6000, 5000, 4000)
    done = run(platform, *GO, "--deadline", "1")
    assert done.code == BEHIND
    assert re.search(r"lag 4000 messages \(WARNING\). It falls: by 1000 in \d+ s, so about \d+ minutes more", done.err)


def test_a_lag_that_can_not_be_known_is_no_success(platform: Programs) -> None:
    platform.on("kubectl", ".*exec deployment/kafka .*", {"code": 1, "err": "Error: NotFound\n"}, first=True)
    done = run(platform, *GO, "--deadline", "1")
    assert done.code == BEHIND
    assert "the lag is not known (Kafka: Error: NotFound; database: Error: NotFound)" in done.err


BACK = "to go back: helm rollback kafka-to-db-consumer 4 -n loom-dev"


async def interrupt(platform: Programs, program: str, match: str) -> Done:
    """Ctrl-C while that call is held."""

    async def held() -> bool:
        calls = [call for call in platform.calls(program) if "--dry-run" not in call]
        return any(re.fullmatch(match, call) for call in calls)

    platform.on(program, match, {"hold": True}, first=True)
    platform.on("helm", f"{UPGRADE} --dry-run=server", first=True)
    process = platform.start(SCRIPT, *GO, **IMAGE)
    await eventually(held)
    done = press_ctrl_c(process)
    assert done.code == STOPPED, done.said
    return done


@pytest.mark.parametrize(("age", "code"), [("0 s", DONE), ("2 minutes", BEHIND)])
def test_without_kafka_only_new_samples_make_the_lag_healthy(
    age: str, code: int, consumer: Consumer, platform: Programs
) -> None:
    platform.on("kubectl", ".*exec deployment/kafka .*", {"code": 1, "err": "Error: NotFound\n"}, first=True)
    sample(consumer, age=age)
    arguments = (*GO, "--deadline", "1", "--group", consumer.group)
    done = run(platform, *arguments, LOOM_DATABASE_URL=consumer.database_url)
    assert done.code == code, done.said
    assert re.search(r"lag: 0 messages \(HEALTHY\), as the consumer sampled it at most \d+ s ago", done.out)


def test_a_brokers_login_is_taken_from_the_file_that_is_named(platform: Programs) -> None:
    done = run(platform, "--dry-run", "--command-config", "/etc/kafka/client.properties")
    assert done.code == DONE, done.said
    [call] = [call for call in platform.calls("kubectl") if "exec deployment/kafka" in call]
    assert " --command-config /etc/kafka/client.properties --describe " in call


@pytest.mark.parametrize(
    ("program", "match", "says"),
    [
        ("helm", ".* history .*", "stopped while looking; nothing was done"),
        ("make", ".*", "the image was built and pushed; the cluster is as it was"),
        ("helm", UPGRADE, BACK),
        ("kubectl", ".*rollout status .*", BACK),
        ("kubectl", ".*get deployment .*readyReplicas.*", f"the lag was followed; the new revision runs. .*{BACK}"),
    ],
)
async def test_ctrl_c_says_how_things_stand(program: str, match: str, says: str, platform: Programs) -> None:
    done = await interrupt(platform, program, match)
    assert re.search(says, done.err), done.err
    assert not any("rollback" in call for call in changes(platform))


async def test_ctrl_c_in_a_rollback_says_how_to_go_back(platform: Programs) -> None:
    platform.on("kubectl", ".*rollout status .*", {"code": 1}, first=True)
    platform.on("helm", ".* history .*", *UPGRADED, first=True)
    done = await interrupt(platform, "helm", ".* rollback .*")
    assert "stopped while going back, because the pods did not start. " in done.err
    assert BACK in done.err


async def test_ctrl_c_names_the_pods_that_a_rollback_would_take_away(platform: Programs) -> None:
    platform.on("helm", ".* get values .*", {"out": OFF}, first=True)
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": "10"}, first=True)
    done = await interrupt(platform, "kubectl", ".*rollout status .*")
    assert f"{BACK}, then kubectl scale deployment kafka-to-db-consumer --replicas=10 -n loom-dev" in done.err


async def test_ctrl_c_in_a_first_install_says_how_to_remove_it(platform: Programs) -> None:
    platform.on("helm", f"{HELM_HERE} history .*", NO_RELEASE, first=True)
    done = await interrupt(platform, "kubectl", ".*rollout status .*")
    assert "there is no earlier revision to go back to; to remove it: helm uninstall kafka-to-db-consumer" in done.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--force"], "unknown: --force"), (["--deadline", "soon"], "not 'soon'"), (["--context"], "needs a value")],
)
def test_a_command_line_without_sense_is_named(arguments: list[str], says: str, platform: Programs) -> None:
    done = run(platform, *arguments)
    assert (done.code, done.out) == (USAGE, "")
    assert says in done.err
    assert os.linesep.join(changes(platform)) == ""


def played_kafka_first(programs: Programs, *lags: int) -> None:
    tables = [
        "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID\n"
        f"group some.topic 0 100 {100 + lag} {lag} loom-1-0 /10.0.0.1 loom-1\n"
        for lag in lags
    ]
    programs.on("kubectl", ".*exec deployment/kafka .*", *({"out": table} for table in tables), first=True)
