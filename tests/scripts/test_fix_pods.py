"""``scripts/fix-consumer-lag.sh`` makes sure of at least three pods, and takes none away."""

from __future__ import annotations

import re

import pytest

from tests.scripts.programs import Programs
from tests.scripts.test_fix import DONE, HELM_HERE, HERE, OFF, ROLLED_BACK, UPGRADED, changes, history, platform, run

__all__ = ["platform"]


@pytest.mark.parametrize(
    ("values", "live", "hpa", "expected"),
    [
        ("null\n", "3", "3", ""),
        ("null\n", "10", "3", ""),  # ten by load: the autoscaler's business
        ("null\n", "6", "6", "--set autoscaling.minReplicas=6"),  # somebody raised it by hand
        ("autoscaling:\n  minReplicas: 1\n", "1", "1", "--set autoscaling.minReplicas=3"),
        ("autoscaling:\n  maxReplicas: 2\n  minReplicas: 1\n", "1", "1",
         "--set autoscaling.minReplicas=3 --set autoscaling.maxReplicas=3"),
        ("autoscaling:\n  minReplicas: 5\n", "5", "5", ""),
        (OFF, "3", "", ""),
        (OFF, "10", "", "--set replicaCount=10"),  # scaled by hand: helm would take it back to 3
        (OFF + "replicaCount: 10\n", "10", "", ""),
        (OFF + "replicaCount: 1\n", "1", "", "--set replicaCount=3"),
        (OFF + "replicaCount: 10\n", "1", "", ""),
        (OFF + "keda:\n  enabled: true\n  minReplicas: 1\n", "1", "", "--set keda.minReplicas=3"),
    ],
)  # fmt: skip
def test_at_least_three_pods_and_never_fewer_than_there_are(
    values: str, live: str, hpa: str, expected: str, platform: Programs
) -> None:
    platform.on("helm", ".* get values .*", {"out": values}, first=True)
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": live}, first=True)
    platform.on("kubectl", ".*get hpa .*", {"out": hpa}, first=True)
    done = run(platform, "--dry-run")
    assert done.code == DONE, done.said
    [dry] = [call for call in platform.calls("helm") if "--dry-run=server" in call]
    assert re.search(r"image\.digest= ?(.*) --timeout", dry)[1].strip() == expected  # type: ignore[index]


def test_what_helm_merges_is_planned_with_not_what_a_failed_upgrade_asked_for(platform: Programs) -> None:
    platform.on("helm", f"{HELM_HERE} history .*", history((4, "deployed"), (5, "failed")), first=True)
    platform.on("helm", ".* get values .*", {"out": OFF + "replicaCount: 10\n"}, first=True)
    platform.on("helm", ".* get values .*--revision 4 .*", {"out": OFF + "replicaCount: 3\n"}, first=True)
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": "10"}, first=True)
    assert run(platform, "--dry-run").code == DONE
    [upgrade] = [call for call in platform.calls("helm") if "--dry-run=server" in call]
    assert " --set replicaCount=10 " in upgrade


def test_a_deployment_at_zero_is_woken_for_its_autoscaler(platform: Programs) -> None:
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": "0"}, first=True)
    assert run(platform).code == DONE
    assert changes(platform)[-1] == f"{HERE} scale deployment kafka-to-db-consumer --replicas=3"


def test_a_deployment_that_can_not_be_woken_is_rolled_back(platform: Programs) -> None:
    platform.on("kubectl", ".*get deployment .*{.spec.replicas}", {"out": "0"}, first=True)
    platform.on("kubectl", ".* scale deployment .*", {"code": 1, "err": "error: forbidden\n"}, first=True)
    platform.on("helm", ".* history .*", *UPGRADED, first=True)
    done = run(platform)
    assert done.code == ROLLED_BACK, done.said
    assert done.err.endswith("is scaled to 0 pods, and scaling it up failed. Rolled back: the pods of revision 4 run\n")
    assert f"{HELM_HERE} rollback kafka-to-db-consumer 4 --timeout 35m" in changes(platform)
