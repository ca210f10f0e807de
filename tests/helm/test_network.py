"""What the pods may reach, who may reach them, and with which certificates."""

from __future__ import annotations

import pytest

from tests.helm.chart import Object, ci, environment, render

DNS = {"ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]}


def tcp(*ports: int) -> list[Object]:
    return [{"protocol": "TCP", "port": port} for port in ports]


def test_pods_reach_kafka_database_and_dns_only() -> None:
    spec = ci("network-policy").one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == [
        DNS,
        {"ports": tcp(5432), "to": [{"podSelector": {"matchLabels": {"app": "timescaledb"}}}]},
        {"ports": tcp(9092), "to": [{"podSelector": {"matchLabels": {"app": "kafka"}}}]},
    ]


def test_pods_are_reached_at_their_metrics_port_only() -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    port = {"protocol": "TCP", "port": "metrics"}
    assert ci("network-policy").one("NetworkPolicy")["spec"]["ingress"] == [{"ports": [port], "from": [monitoring]}]
    assert ci("network-policy-ports").one("NetworkPolicy")["spec"]["ingress"] == [{"ports": [port]}]


def test_ports_come_from_the_addresses_or_are_given() -> None:
    assert ci("network-policy-ports").one("NetworkPolicy")["spec"]["egress"] == [
        DNS,
        {"ports": tcp(6432), "to": [{"ipBlock": {"cidr": "10.20.30.40/32"}}]},
        {"ports": tcp(9092, 9094)},
    ]


def test_policy_covers_consumer_and_test_but_not_others() -> None:
    rendered = ci("network-policy")
    selector = rendered.one("NetworkPolicy")["spec"]["podSelector"]
    (expression,) = selector["matchExpressions"]
    assert (expression["operator"], expression["values"]) == ("In", ["consumer", "test"])
    for labels in (
        rendered.deployment["spec"]["template"]["metadata"]["labels"],
        rendered.test_pod["metadata"]["labels"],
    ):
        assert selector["matchLabels"].items() <= labels.items()
        assert labels[expression["key"]] in expression["values"]


def test_migration_has_a_policy_of_its_own_before_the_release() -> None:
    rendered = ci("network-policy")
    policy = rendered.one("NetworkPolicy", "migration")
    assert policy["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    labels = rendered.job["spec"]["template"]["metadata"]["labels"]
    assert policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["spec"]["ingress"] == []
    assert policy["spec"]["egress"] == [
        DNS,
        {"ports": tcp(5432), "to": [{"podSelector": {"matchLabels": {"app": "timescaledb"}}}]},
    ]


def test_no_policy_unless_asked() -> None:
    assert render().all("NetworkPolicy") == []


def test_metrics_of_pods_that_are_not_ready_are_scraped_too() -> None:
    spec = ci("monitoring").one("Service")["spec"]
    assert spec["publishNotReadyAddresses"] is True
    assert spec["clusterIP"] == "None"
    assert spec["ports"] == [{"name": "metrics", "port": 9464, "targetPort": "metrics"}]
    assert ci("monitoring").consumer["ports"] == [{"name": "metrics", "containerPort": 9464}]


def test_service_monitor_selects_the_service() -> None:
    rendered = ci("monitoring")
    monitor = rendered.one("ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert monitor["spec"].keys() == {"selector", "endpoints"}
    service = rendered.one("Service")["metadata"]["labels"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service.items()
    assert monitor["spec"]["endpoints"] == [{"port": "metrics", "path": "/metrics", "interval": "30s"}]


def mounted(spec: Object) -> dict[str, Object]:
    """Directory → the Secret that is mounted there."""
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    (container,) = spec["containers"]
    return {
        mount["mountPath"]: volumes[mount["name"]]["secret"]
        for mount in container["volumeMounts"]
        if "secret" in volumes[mount["name"]]
    }


def file_names(secret: Object) -> set[str]:
    return {item["path"] for item in secret["items"]}


def test_mutual_tls_and_verify_full_reach_the_service() -> None:
    rendered = ci("tls")
    for spec in (rendered.pod, rendered.test_pod["spec"]):
        certificates = mounted(spec)
        assert {path: secret["secretName"] for path, secret in certificates.items()} == {
            "/etc/loom/kafka": "kafka-client",
            "/etc/loom/database": "database-client",
        }
        assert all(file_names(secret) == {"ca.crt", "tls.crt", "tls.key"} for secret in certificates.values())
        variables = environment(spec["containers"][0])
        assert {name: value for name, value in variables.items() if "_SSL_" in name} == {
            "LOOM_KAFKA_SSL_CA_FILE": "/etc/loom/kafka/ca.crt",
            "LOOM_KAFKA_SSL_CERT_FILE": "/etc/loom/kafka/tls.crt",
            "LOOM_KAFKA_SSL_KEY_FILE": "/etc/loom/kafka/tls.key",
        }
        assert variables["LOOM_KAFKA_SECURITY_PROTOCOL"] == "SSL"
        assert variables["LOOM_KAFKA_BOOTSTRAP_SERVERS"] == "kafka-0.kafka:9093,kafka-1.kafka:9093,kafka-2.kafka:9094"
        assert variables["LOOM_DATABASE_URL"] == (
            "postgresql://loom%40tenant@db-0.db:5432,db-1.db:5432/loom?sslmode=verify-full"
            "&sslrootcert=/etc/loom/database/ca.crt&sslcert=/etc/loom/database/tls.crt"
            "&sslkey=/etc/loom/database/tls.key&target_session_attrs=read-write"
        )


def test_migration_checks_the_database_as_the_service_does() -> None:
    rendered = ci("tls")
    spec = rendered.job["spec"]["template"]["spec"]
    assert mounted(spec).keys() == {"/etc/loom/database"}
    url = environment(rendered.consumer)["LOOM_DATABASE_URL"]
    assert environment(spec["containers"][0])["LOOM_DATABASE_URL"] == url


def test_login_over_tls_reaches_the_service() -> None:
    rendered = ci("sasl-ssl")
    variables = environment(rendered.consumer)
    assert {name: value for name, value in variables.items() if "SASL" in name or "_SSL_" in name} == {
        "LOOM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "LOOM_KAFKA_SASL_USERNAME": "loom",
        "LOOM_KAFKA_SASL_PASSWORD": {"secretKeyRef": {"name": "kafka-login", "key": "password"}},
        "LOOM_KAFKA_SSL_CA_FILE": "/etc/loom/kafka/ca.crt",
    }
    assert "sslmode=verify-ca&sslrootcert=/etc/loom/database/authority.pem" in variables["LOOM_DATABASE_URL"]
    assert "sslcert" not in variables["LOOM_DATABASE_URL"]
    assert file_names(mounted(rendered.pod)["/etc/loom/database"]) == {"authority.pem"}


@pytest.mark.parametrize("name", ["tls", "sasl-ssl", "keda"])
def test_keys_are_read_only_and_for_the_services_group_alone(name: str) -> None:
    rendered = ci(name)
    for spec in rendered.pod_specs():
        assert all(secret["defaultMode"] == 0o440 for secret in mounted(spec).values())
        for mount in spec["containers"][0]["volumeMounts"]:
            assert mount.get("readOnly", False) is (mount["name"] != "tmp")


def test_helm_test_checks_connections_and_schema() -> None:
    test = render().test_pod
    assert test["metadata"]["annotations"]["helm.sh/hook"] == "test"
    assert test["metadata"]["annotations"]["helm.sh/hook-delete-policy"] == "before-hook-creation"
    (container,) = test["spec"]["containers"]
    assert container["args"] == ["check", "--broker"]
    assert environment(container) == environment(render().consumer)
    assert test["spec"]["restartPolicy"] == "Never"
