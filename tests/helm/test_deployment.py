"""The consumer's pods: what they are given, when they are ready, how they are replaced."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest

from ingest.app import LEAVE_GROUP_S
from ingest.settings import SECTIONS, DatabaseSettings, KafkaSettings, ServiceSettings, variable_of
from tests.helm.chart import (
    CI_FILES,
    DIRECTORY,
    NAME,
    Object,
    ci,
    environment,
    render,
    secret_of,
    set_value,
    values_of,
)
from tests.support.tls import Authority


def test_former_systems_values_are_the_defaults() -> None:
    variables = environment(render().consumer)
    assert secret_of(variables.pop("PGPASSWORD")) == ("timescaledb-credentials", "password")
    assert variables == {
        "LOOM_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092",
        "LOOM_KAFKA_GROUP_ID": "kafka-to-db-consumer",
        "LOOM_KAFKA_BATCH_SIZE": "200",
        "LOOM_KAFKA_BATCH_TIMEOUT": "0.5",
        "LOOM_KAFKA_MAX_POLL_RECORDS": "500",
        "LOOM_KAFKA_FETCH_MAX_BYTES": "52428800",
        "LOOM_KAFKA_SESSION_TIMEOUT_MS": "60000",
        "LOOM_KAFKA_AUTO_OFFSET_RESET": "earliest",
        "LOOM_KAFKA_ON_MISSING_OFFSETS": "stop",
        "LOOM_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
        "LOOM_DATABASE_URL": "postgresql://loom@timescaledb:5432/loom?sslmode=prefer",
        "LOOM_DB_MIN_POOL_SIZE": "20",
        "LOOM_DB_MAX_POOL_SIZE": "100",
        "LOOM_TIMESCALE": "required",
        "LOOM_TOPICS": "ingest.topics",
        "LOOM_HTTP_PORT": "8080",
        "LOOM_SHUTDOWN_GRACE": "20",
        "LOOM_LOG_LEVEL": "info",
    }


def test_former_systems_resources_are_the_defaults() -> None:
    assert render().consumer["resources"] == {
        "requests": {"cpu": "1", "memory": "1Gi"},
        "limits": {"cpu": "2", "memory": "2Gi"},
    }


@pytest.mark.parametrize("name", ["default", "created-secrets", "tls", "sasl-ssl", "plain-postgresql"])
def test_every_variable_is_a_setting(name: str) -> None:
    known = {variable_of(section, field) for section in SECTIONS for field in section.model_fields}
    rendered = ci(name)
    for container in (rendered.consumer, rendered.test_pod["spec"]["containers"][0]):
        found = {variable for variable in environment(container) if variable.startswith("LOOM_")}
        assert found - known == set()


def test_variables_that_the_chart_gives_as_examples_are_settings_that_bound_no_batch() -> None:
    known = {variable_of(section, field) for section in SECTIONS for field in section.model_fields}
    (example,) = re.findall(r"\{name: (LOOM_\w+), value:", (DIRECTORY / "values.yaml").read_text())
    given = [each["name"] for path in CI_FILES for each in values_of(path).get("extraEnv", [])]
    assert example in given
    assert set(given) <= known
    # The service's own bounds were measured to be the best: an example that lowers them would be copied.
    assert [name for name in given if name.startswith("LOOM_BATCH_")] == []


@pytest.mark.parametrize("name", ["default", "existing-secrets", "tls", "sasl-ssl", "plain-postgresql"])
def test_the_service_takes_what_the_chart_gives(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key_and_certificate = Authority(tmp_path, "authority").sign("any").both()
    for variable, value in environment(ci(name).consumer).items():
        text = value if isinstance(value, str) else "from a reference"
        monkeypatch.setenv(variable, text.replace("/etc/loom", str(tmp_path)))
        for mounted in re.findall(r"/etc/loom/([\w./-]+)", text):  # a Secret has them, in a cluster
            file = tmp_path / mounted
            file.parent.mkdir(exist_ok=True)
            file.write_text(key_and_certificate)
    kafka, database, service = KafkaSettings(), DatabaseSettings(), ServiceSettings()
    assert (kafka.fetch_max_bytes, database.max_pool_size, service.shutdown_grace) == (52_428_800, 100, 20)


@pytest.mark.parametrize(
    ("value", "given", "variable", "expected"),
    [
        ("kafka.bootstrapServers", "a:1, b:2", "LOOM_KAFKA_BOOTSTRAP_SERVERS", "a:1,b:2"),
        ("kafka.groupId", "other", "LOOM_KAFKA_GROUP_ID", "other"),
        ("kafka.batchSize", 100_000, "LOOM_KAFKA_BATCH_SIZE", "100000"),
        ("kafka.batchTimeout", 2, "LOOM_KAFKA_BATCH_TIMEOUT", "2"),
        ("kafka.maxPollRecords", 1000, "LOOM_KAFKA_MAX_POLL_RECORDS", "1000"),
        ("kafka.fetchMaxBytes", 2_000_000_000, "LOOM_KAFKA_FETCH_MAX_BYTES", "2000000000"),
        ("kafka.sessionTimeoutMs", 45_000, "LOOM_KAFKA_SESSION_TIMEOUT_MS", "45000"),
        ("kafka.autoOffsetReset", "latest", "LOOM_KAFKA_AUTO_OFFSET_RESET", "latest"),
        ("kafka.onMissingOffsets", "earliest", "LOOM_KAFKA_ON_MISSING_OFFSETS", "earliest"),
        ("database.pool.max", 40, "LOOM_DB_MAX_POOL_SIZE", "40"),
        ("database.pool.min", 5, "LOOM_DB_MIN_POOL_SIZE", "5"),
        ("database.timescale", "auto", "LOOM_TIMESCALE", "auto"),
        ("database.timescale", False, "LOOM_TIMESCALE", "off"),  # what YAML makes of a bare off
        ("topics", "acme.topics", "LOOM_TOPICS", "acme.topics"),
        ("logLevel", "debug", "LOOM_LOG_LEVEL", "debug"),
        ("httpPort", 9464, "LOOM_HTTP_PORT", "9464"),
        ("shutdownGraceSeconds", 7.5, "LOOM_SHUTDOWN_GRACE", "7.5"),
        # What --set makes of fractions.
        ("kafka.batchTimeout", "0.25", "LOOM_KAFKA_BATCH_TIMEOUT", "0.25"),
        ("shutdownGraceSeconds", "34.5", "LOOM_SHUTDOWN_GRACE", "34.5"),
    ],
)
def test_a_value_arrives_as_it_was_written(value: str, given: Any, variable: str, expected: str) -> None:
    assert environment(render(set_value(value, given)).consumer)[variable] == expected


def test_further_variables_go_to_every_container() -> None:
    rendered = ci("plain-postgresql")
    for spec in rendered.pod_specs():
        variables = environment(spec["containers"][0])
        assert variables["LOOM_MONITOR_EVERY"] == "30"
        assert variables["LOOM_HTTP_HOST"] == {"fieldRef": {"fieldPath": "status.podIP"}}


def test_image_is_the_charts_version_or_the_one_that_is_named() -> None:
    assert render().consumer["image"] == "kafka-to-db-consumer:0.1.0"
    named = ci("plain-postgresql")
    digest = "0123456789abcdef" * 4
    assert {spec["containers"][0]["image"] for spec in named.pod_specs()} == {
        f"registry.example.com:5000/acme/ingest:2.3.1@sha256:{digest}"
    }
    assert named.pod["imagePullSecrets"] == [{"name": "acme-registry"}]
    assert named.consumer["imagePullPolicy"] == "Always"


def test_pods_are_found_by_the_former_systems_label() -> None:
    for release in (NAME, "blue"):
        rendered = render(release=release)
        assert rendered.deployment["spec"]["template"]["metadata"]["labels"]["app"] == NAME
        # Others would be counted as consumers.
        for other in (rendered.job["spec"]["template"], rendered.test_pod):
            assert "app" not in other["metadata"]["labels"]


@pytest.mark.parametrize("release", [NAME, "blue"])
def test_selectors_find_the_consumers_pods_and_no_others(release: str) -> None:
    rendered = render(release=release)
    labels = [
        rendered.deployment["spec"]["template"]["metadata"]["labels"],
        rendered.job["spec"]["template"]["metadata"]["labels"],
        rendered.test_pod["metadata"]["labels"],
        render(release="another").deployment["spec"]["template"]["metadata"]["labels"],
    ]
    selectors = [
        rendered.deployment["spec"]["selector"]["matchLabels"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        rendered.one("Service")["spec"]["selector"],
        *(each["labelSelector"]["matchLabels"] for each in rendered.pod["topologySpreadConstraints"]),
    ]
    for selector in selectors:
        assert [selector.items() <= each.items() for each in labels] == [True, False, False, False]


def test_selector_does_not_change_with_values_or_version() -> None:
    # It is immutable: an upgrade that changed it would be refused.
    expected = {
        "app.kubernetes.io/name": NAME,
        "app.kubernetes.io/instance": NAME,
        "app.kubernetes.io/component": "consumer",
    }
    for name in ("default", "scheduling", "plain-postgresql"):
        assert ci(name).deployment["spec"]["selector"] == {"matchLabels": expected}


def test_replicas_are_left_out_where_an_autoscaler_owns_them() -> None:
    assert "replicas" not in render().deployment["spec"]
    assert "replicas" not in ci("keda").deployment["spec"]
    assert render({"autoscaling": {"enabled": False}}).deployment["spec"]["replicas"] == 3
    assert ci("autoscaler-off").deployment["spec"]["replicas"] == 5


def test_outage_kills_no_pod() -> None:
    probes = {name: render().consumer[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    # /healthz says 200 while the process waits for broker, database or schema: see tests/acceptance.
    assert {name: probe["httpGet"] for name, probe in probes.items()} == {
        "startup": {"path": "/healthz", "port": "metrics"},
        "liveness": {"path": "/healthz", "port": "metrics"},
        "readiness": {"path": "/readyz", "port": "metrics"},
    }
    assert all(probe["timeoutSeconds"] >= 5 for probe in probes.values())
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] >= 120  # a slow node's start
    assert render().consumer["ports"] == [{"name": "metrics", "containerPort": 8080}]


def test_new_pods_wait_for_the_schema() -> None:
    assert render().consumer["args"] == ["run", "--wait-for-schema"]
    assert "command" not in render().consumer  # the image's own: `ingest`


@pytest.mark.parametrize("values", [{}, {"shutdownGraceSeconds": "34.9"}], ids=["as it comes", "longest"])
def test_a_pod_has_longer_to_stop_than_the_service_takes(values: Object) -> None:
    rendered = render(values)
    grace = float(environment(rendered.consumer)["LOOM_SHUTDOWN_GRACE"])
    # After the grace: the lanes are cancelled (2 s), offsets committed, the group left, the engine disposed (2 s).
    assert rendered.pod["terminationGracePeriodSeconds"] > grace + 2 + 2 * LEAVE_GROUP_S + 2


def test_rolling_update_costs_few_rebalances_and_no_old_pod_before_a_new_one_is_ready() -> None:
    assert render().deployment["spec"]["strategy"] == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0},
    }


def test_pods_are_spread_over_nodes_and_zones() -> None:
    constraints = render().pod["topologySpreadConstraints"]
    assert [each["topologyKey"] for each in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    for each in constraints:
        # A cluster of one node runs all of them; the pods of the last revision don't count.
        assert each["whenUnsatisfiable"] == "ScheduleAnyway"
        assert each["matchLabelKeys"] == ["pod-template-hash"]


def test_a_changed_password_makes_new_pods() -> None:
    def annotations(password: str) -> Object:
        values = {
            "kafka": {
                "securityProtocol": "SASL_SSL",
                "sasl": {"username": "loom", "secret": {"create": True, "password": password}},
            },
            "database": {"secret": {"create": True, "password": password}},
        }
        metadata = render(values).deployment["spec"]["template"]["metadata"]
        return {key: value for key, value in metadata["annotations"].items() if key.startswith("checksum/")}

    assert annotations("one").keys() == {"checksum/database-secret", "checksum/kafka-secret"}
    assert annotations("one") == annotations("one")
    assert not annotations("one").items() & annotations("two").items()
    # Whoever may read pods can't look the password up in a table of sums.
    assert hashlib.sha256(b"one").hexdigest() not in annotations("one").values()


def test_where_pods_run_can_be_said() -> None:
    rendered = ci("scheduling")
    assert rendered.all("Job") == []
    for spec in rendered.pod_specs():
        assert spec["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
        assert spec["tolerations"][0]["key"] == "dedicated"
        assert "nodeAffinity" in spec["affinity"]
        assert spec["priorityClassName"] == "high"
    template = rendered.deployment["spec"]["template"]["metadata"]
    assert template["labels"]["example.com/tier"] == "ingest"
    assert template["annotations"]["example.com/team"] == "platform"


def test_account_of_the_pods_has_no_token() -> None:
    rendered = render()
    assert rendered.pod["serviceAccountName"] == rendered.one("ServiceAccount")["metadata"]["name"] == NAME
    assert all(each["automountServiceAccountToken"] is False for each in rendered.all("ServiceAccount"))
