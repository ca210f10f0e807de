"""How many pods there are, who decides it, and what NOTES say of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.helm.chart import NAME, Object, ci, render

BY_LAG = {"autoscaling": {"enabled": False}, "keda": {"enabled": True}}
BEHAVIOR = {
    "scaleUp": {
        "stabilizationWindowSeconds": 60,
        "policies": [{"type": "Percent", "value": 100, "periodSeconds": 120}],
    },
    "scaleDown": {
        "stabilizationWindowSeconds": 300,
        "policies": [{"type": "Percent", "value": 50, "periodSeconds": 300}],
    },
}


def test_scales_from_3_to_10_at_70_percent_of_cpu_and_memory() -> None:
    spec = render().one("HorizontalPodAutoscaler")["spec"]
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": NAME}
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 10)
    assert [
        (each["type"], each["resource"]["name"], each["resource"]["target"]["averageUtilization"])
        for each in spec["metrics"]
    ] == [("Resource", "cpu", 70), ("Resource", "memory", 70)]


def test_scaling_starts_no_rebalance_storm() -> None:
    behavior = render().one("HorizontalPodAutoscaler")["spec"]["behavior"]
    assert behavior == BEHAVIOR
    # A step is a rebalance: two of them from 3 to 10, two back.
    assert steps(3, 10, lambda pods: pods * 2) == 2
    assert steps(10, 3, lambda pods: pods // 2) == 2


def steps(pods: int, wanted: int, step: Callable[[int], int]) -> int:
    count = 0
    while pods != wanted:
        pods = min(wanted, step(pods)) if wanted > pods else max(wanted, step(pods))
        count += 1
    return count


@pytest.mark.parametrize(("left_out", "metric"), [("CPU", "memory"), ("Memory", "cpu")])
def test_a_metric_can_be_left_out(left_out: str, metric: str) -> None:
    rendered = render({"autoscaling": {f"target{left_out}UtilizationPercentage": 0}})
    metrics = rendered.one("HorizontalPodAutoscaler")["spec"]["metrics"]
    assert [each["resource"]["name"] for each in metrics] == [metric]


def test_one_autoscaler_at_most() -> None:
    kinds = {
        name: [kind for kind in ("HorizontalPodAutoscaler", "ScaledObject") if ci(name).all(kind)]
        for name in ("default", "keda", "autoscaler-off")
    }
    assert kinds == {"default": ["HorizontalPodAutoscaler"], "keda": ["ScaledObject"], "autoscaler-off": []}


def test_scales_by_lag_with_the_pods_own_login_and_certificates() -> None:
    rendered = ci("keda")
    assert rendered.one("ScaledObject")["spec"] == {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": NAME,
            "envSourceContainerName": "consumer",
        },
        "minReplicaCount": 3,
        "maxReplicaCount": 24,
        "pollingInterval": 30,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": BEHAVIOR}},
        "triggers": [
            {
                "type": "kafka",
                "metadata": {
                    "bootstrapServers": "kafka:9092",
                    "consumerGroup": "kafka-to-db-consumer",
                    "lagThreshold": "10000",
                    "offsetResetPolicy": "earliest",
                    "sasl": "scram_sha512",
                    "tls": "enable",
                },
                "authenticationRef": {"name": NAME},
            }
        ],
    }
    assert rendered.one("TriggerAuthentication")["spec"] == {
        "env": [
            {"parameter": "username", "name": "LOOM_KAFKA_SASL_USERNAME", "containerName": "consumer"},
            {"parameter": "password", "name": "LOOM_KAFKA_SASL_PASSWORD", "containerName": "consumer"},
        ],
        "secretTargetRef": [
            {"parameter": "ca", "name": "kafka-client", "key": "ca.crt"},
            {"parameter": "cert", "name": "kafka-client", "key": "tls.crt"},
            {"parameter": "key", "name": "kafka-client", "key": "tls.key"},
        ],
    }


def test_scales_by_the_lag_of_one_topic_without_login() -> None:
    rendered = ci("keda-plain")
    assert rendered.one("ScaledObject")["spec"]["triggers"] == [
        {
            "type": "kafka",
            "metadata": {
                "bootstrapServers": "kafka:9092",
                "consumerGroup": "kafka-to-db-consumer",
                "topic": "device.sensor.gps.raw",
                "lagThreshold": "5000",
                "offsetResetPolicy": "earliest",
            },
        }
    ]
    assert rendered.all("TriggerAuthentication") == []


@pytest.mark.parametrize(
    ("mechanism", "for_keda"),
    [("PLAIN", "plaintext"), ("SCRAM-SHA-256", "scram_sha256"), ("SCRAM-SHA-512", "scram_sha512")],
)
def test_keda_gets_the_mechanism_in_its_own_words(mechanism: str, for_keda: str) -> None:
    sasl = {"mechanism": mechanism, "username": "loom", "secret": {"name": "kafka-login"}}
    values = {
        "autoscaling": {"enabled": False},
        "keda": {"enabled": True},
        "kafka": {"securityProtocol": "SASL_PLAINTEXT", "sasl": sasl},
    }
    (trigger,) = render(values).one("ScaledObject")["spec"]["triggers"]
    assert trigger["metadata"]["sasl"] == for_keda
    assert "tls" not in trigger["metadata"]


def test_a_database_outage_does_not_block_node_drains() -> None:
    spec = render().one("PodDisruptionBudget")["spec"]
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    assert spec["maxUnavailable"] == 1
    assert render({"podDisruptionBudget": {"maxUnavailable": "34%"}}).one("PodDisruptionBudget")["spec"][
        "maxUnavailable"
    ] == "34%"  # fmt: skip


def test_notes_say_what_was_installed_and_how_to_watch_it() -> None:
    notes = render().notes
    for line in (
        "kafka-to-db-consumer 0.1.0: group kafka-to-db-consumer reads kafka:9092 and writes to loom at timescaledb.",
        "Pods: 3 to 10, by CPU and memory (HorizontalPodAutoscaler).",
        "Connections: at most 10 pods x (100 + 1) = 1010, and twice that, 2020, while an upgrade has old and new pods.",
        "  kubectl logs -n loom-dev job/kafka-to-db-consumer-migration",
        "  kubectl rollout status -n loom-dev deployment/kafka-to-db-consumer",
        "  kubectl get pods -n loom-dev -l app=kafka-to-db-consumer",
        "  kubectl top pods -n loom-dev | grep kafka-to-db-consumer",
        "  helm test kafka-to-db-consumer -n loom-dev --logs",
    ):
        assert line in notes.splitlines()
    assert "Pods: 3 to 24, by the group's lag (KEDA)." in ci("keda").notes
    assert "Pods: 5." in ci("autoscaler-off").notes


@pytest.mark.parametrize(
    ("values", "warning"),
    [
        (
            {"database": {"maxConnections": 1009}},
            "WARNING: 10 pods x (100 + 1) = 1010 connections, but the database takes 1009 (database.maxConnections).",
        ),
        *(
            (
                {"database": {"maxConnections": limit}},
                "WARNING: while an upgrade has old and new pods they can want 2020 connections, but the database takes "
                f"{limit} (database.maxConnections).\nBetween upgrades they fit.",
            )
            for limit in (1010, 2019)
        ),
        ({"database": {"maxConnections": 2020}}, None),
        (
            {"autoscaling": {"enabled": False}, "replicaCount": 5, "database": {"maxConnections": 400}},
            "WARNING: 5 pods x (100 + 1) = 505 connections, but the database takes 400 (database.maxConnections).",
        ),
        (
            BY_LAG | {"kafka": {"partitions": 9}},
            "WARNING: 10 pods for 9 partitions (kafka.partitions): 1 of them would have nothing to read.",
        ),
        ({"kafka": {"partitions": 4}}, "WARNING: 10 pods for 4 partitions (kafka.partitions): 6 of them"),
        ({"kafka": {"partitions": 10}}, None),
        ({"autoscaling": {"enabled": False}, "replicaCount": 0}, "WARNING: replicaCount is 0: nothing is read."),
    ],
)  # fmt: skip
def test_notes_warn_of_more_pods_than_database_or_topics_take(values: Object, warning: str | None) -> None:
    notes = render(values | {"image": {"repository": "registry.example.com/loom/kafka-to-db-consumer"}}).notes
    assert notes.count("WARNING") == (warning is not None)
    assert warning is None or warning in notes


@pytest.mark.parametrize(
    ("repository", "warned"),
    [
        ("kafka-to-db-consumer", True),
        ("loom/kafka-to-db-consumer", True),  # a user of Docker Hub
        ("registry.example.com/loom/kafka-to-db-consumer", False),
        ("registry:5000/kafka-to-db-consumer", False),
        ("localhost/kafka-to-db-consumer", False),
    ],
)
def test_notes_warn_of_an_image_whose_registry_is_not_named(repository: str, warned: bool) -> None:
    notes = render({"image": {"repository": repository}}).notes
    assert ("WARNING" in notes) is warned
    assert (f"WARNING: image.repository {repository} names no registry: a node that does not have" in notes) is warned
