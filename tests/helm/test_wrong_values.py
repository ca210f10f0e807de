"""What each wrong value gets: one line that names the value and says what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helm.chart import Object, set_value
from tests.helm.refusals import refused

EXISTING = {"name": "kafka-login"}


def sasl(**changes: Any) -> Object:
    kafka: Object = {
        "securityProtocol": "SASL_SSL",
        "sasl": {"username": "loom", "secret": EXISTING} | changes.pop("sasl", {}),
    }
    return {"kafka": kafka | changes}


@pytest.mark.parametrize(
    ("value", "given", "said"),
    [
        ("replicas", 3, "'': additional properties 'replicas' not allowed"),
        ("kafka.topic", "x", "'/kafka': additional properties 'topic' not allowed"),
        ("database.secret.value", "x", "'/database/secret': additional properties 'value' not allowed"),
        ("resources.request", {}, "'/resources': additional properties 'request' not allowed"),
        ("replicaCount", "three", "'/replicaCount': got string, want integer"),
        ("replicaCount", -1, "'/replicaCount': minimum: got -1, want 0"),
        ("image.tag", 1.2, "'/image/tag': got number, want string"),
        ("image.pullPolicy", "No", "'/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"),
        ("kafka.batchSize", 0, "'/kafka/batchSize': minimum: got 0, want 1"),
        ("kafka.batchSize", 100_001, "'/kafka/batchSize': maximum: got 100,001, want 100,000"),
        ("kafka.batchTimeout", True, "'/kafka/batchTimeout': got boolean, want number or string"),
        ("kafka.batchTimeout", 61, "'/kafka/batchTimeout': maximum: got 61, want 60"),
        ("kafka.sessionTimeoutMs", 5999, "'/kafka/sessionTimeoutMs': minimum: got 5,999, want 6,000"),
        ("kafka.autoOffsetReset", "newest", "'/kafka/autoOffsetReset': value must be one of 'earliest', 'latest'"),
        ("kafka.onMissingOffsets", "skip", "'/kafka/onMissingOffsets': value must be one of 'stop', 'earliest'"),
        (
            "kafka.securityProtocol",
            "TLS",
            "'/kafka/securityProtocol': value must be one of 'PLAINTEXT', 'SSL', 'SASL_PLAINTEXT', 'SASL_SSL'",
        ),
        (
            "kafka.sasl.mechanism",
            "GSSAPI",
            "'/kafka/sasl/mechanism': value must be one of 'PLAIN', 'SCRAM-SHA-256', 'SCRAM-SHA-512'",
        ),
        ("database.port", 99_999, "'/database/port': maximum: got 99,999, want 65,535"),
        ("database.timescale", "maybe", "'/database/timescale': value must be one of 'required', 'auto', 'off', false"),
        ("httpPort", 80, "'/httpPort': minimum: got 80, want 1,024"),
        ("extraEnv", {"A": "b"}, "'/extraEnv': got object, want array"),
        ("extraEnv", [{"name": "A", "value": 5}], "'/extraEnv/0/value': got number, want string"),
        ("autoscaling.minReplicas", 0, "'/autoscaling/minReplicas': minimum: got 0, want 1"),
        (
            "networkPolicy.kafka.to",
            [{"app": 1}],
            "'/networkPolicy/kafka/to/0': additional properties 'app' not allowed",
        ),
        ("migration.activeDeadlineSeconds", 5, "'/migration/activeDeadlineSeconds': minimum: got 5, want 60"),
        ("podLabels", {"a": 1}, "'/podLabels/a': got number, want string"),
    ],
)
def test_a_wrong_kind_of_value_is_named(value: str, given: Any, said: str) -> None:
    assert refused(set_value(value, given)) == [said]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"image": {"tag": "latest"}},
            'image.tag: "latest" names no version: two pods of one revision could run different code. Give a '
            "version, or "
            "leave it empty for the chart's own",
        ),
        ({"image": {"digest": "abc"}}, 'image.digest: "abc" is no digest: sha256: and 64 hexadecimal digits'),
        ({"image": {"repository": ""}}, "image.repository: is empty"),
        ({"kafka": {"bootstrapServers": "kafka"}}, 'kafka.bootstrapServers: "kafka" is not host:port'),
        ({"kafka": {"bootstrapServers": "a:1,,b:2"}}, 'kafka.bootstrapServers: "" is not host:port'),
        *(
            ({"kafka": {"bootstrapServers": server}}, f'kafka.bootstrapServers: "{server}" has no port from 1 to 65535')
            for server in ("kafka:0", "kafka:99999")
        ),
        ({"kafka": {"groupId": " "}}, "kafka.groupId: is empty"),
        ({"kafka": {"batchTimeout": 0}}, "kafka.batchTimeout: must be more than 0"),
        ({"kafka": {"batchTimeout": "0.0"}}, "kafka.batchTimeout: must be more than 0"),
        ({"kafka": {"batchTimeout": "60.5"}}, "kafka.batchTimeout: 60.5 is more than 60"),
        ({"kafka": {"batchTimeout": "0,25"}}, 'kafka.batchTimeout: "0,25" is no number of seconds; 20 and 0.25 are'),
        ({"shutdownGraceSeconds": "soon"}, 'shutdownGraceSeconds: "soon" is no number of seconds; 20 and 0.25 are'),
        (
            {"database": {"host": "timescaledb:5432"}},
            'database.host: "timescaledb:5432" is no host name; the port is database.port, the rest of a URL has '
            "values of "
            "its own",
        ),
        ({"database": {"user": ""}}, "database.user: is empty"),
        ({"database": {"name": ""}}, "database.name: is empty"),
        ({"database": {"pool": {"min": 20, "max": 10}}}, "database.pool: min (20) is greater than max (10)"),
        (
            {"database": {"parameters": {"sslmode": "require"}}},
            "database.parameters: sslmode has a value of its own under database",
        ),
        ({"topics": ""}, "topics: is empty"),
        ({"shutdownGraceSeconds": 0}, "shutdownGraceSeconds: must be more than 0"),
        (
            {"terminationGracePeriodSeconds": 30},
            "terminationGracePeriodSeconds: 30 is too short: a stopping pod takes shutdownGraceSeconds (20) to "
            "write and up "
            "to 10 s to leave the group; give at least 31",
        ),
        (
            {"shutdownGraceSeconds": "35.5"},
            "terminationGracePeriodSeconds: 45 is too short: a stopping pod takes shutdownGraceSeconds (35.5) to "
            "write and up to 10 s to leave the group; give at least 46",
        ),
        (
            {"shutdownGraceSeconds": 40},
            "terminationGracePeriodSeconds: 45 is too short: a stopping pod takes shutdownGraceSeconds (40) to "
            "write and up "
            "to 10 s to leave the group; give at least 51",
        ),
        (
            {"keda": {"enabled": True}},
            "autoscaling.enabled and keda.enabled: two autoscalers of one Deployment work against each other; set "
            "autoscaling.enabled=false to scale by lag, or keda.enabled=false to scale by CPU and memory",
        ),
        ({"autoscaling": {"minReplicas": 11}}, "autoscaling: minReplicas (11) is greater than maxReplicas (10)"),
        ({"keda": {"minReplicas": 11}}, "keda: minReplicas (11) is greater than maxReplicas (10)"),
        (
            {"autoscaling": {"targetCPUUtilizationPercentage": 0, "targetMemoryUtilizationPercentage": 0}},
            "autoscaling: both targets are 0, so there is nothing to scale by; set autoscaling.enabled=false for "
            "a fixed "
            "number of pods",
        ),
        (
            {"podDisruptionBudget": {"maxUnavailable": 0}},
            "podDisruptionBudget.maxUnavailable: 0 would keep every node with a pod from being drained; give at "
            "least 1",
        ),
        (
            {"podDisruptionBudget": {"maxUnavailable": "0%"}},
            "podDisruptionBudget.maxUnavailable: 0% would keep every node with a pod from being drained; give at "
            "least 1",
        ),
        (
            {"podDisruptionBudget": {"maxUnavailable": "half"}},
            'podDisruptionBudget.maxUnavailable: "half" is neither a number of pods nor a percentage',
        ),
        ({"serviceMonitor": {"interval": "15"}}, 'serviceMonitor.interval: "15" is no duration like 15s'),
        (
            {
                "extraEnv": [{"name": "LOOM_MIGRATION_DATABASE_URL", "value": "postgresql://x"}],
                "migration": {"user": "owner", "secret": {"name": "owner"}},
            },
            "extraEnv: LOOM_MIGRATION_DATABASE_URL is there twice, or set by the chart from a value of its own",
        ),
        (
            {"extraEnv": [{"name": "LOOM_DATABASE_URL", "value": "postgresql://x"}]},
            "extraEnv: LOOM_DATABASE_URL is there twice, or set by the chart from a value of its own",
        ),
        (
            {"extraEnv": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
            "extraEnv: A is there twice, or set by the chart from a value of its own",
        ),
        (
            {"database": {"secret": {"password": "x"}}},
            "database.secret.password: is only used with database.secret.create=true; without, the password is "
            "in the Secret "
            "that database.secret.name names",
        ),
        (
            {"database": {"secret": {"create": True}}},
            "database.secret.create: needs database.secret.password; or make the Secret yourself and name it in "
            "database.secret.name",
        ),
        (
            {"database": {"secret": {"name": ""}}},
            "database.secret.name: is empty: name the Secret that has the password under database.secret.key "
            '("password")',
        ),
        ({"database": {"secret": {"key": "a/b"}}}, 'database.secret.key: "a/b" can\'t be a key of a Secret'),
        (
            sasl(sasl={"secret": {}}),
            "kafka.sasl.secret.name: is empty: name the Secret that has the password under kafka.sasl.secret.key "
            '("password")',
        ),
        (sasl(sasl={"username": ""}), "kafka.sasl.username: SASL_SSL needs a login"),
        (
            {"kafka": {"sasl": {"username": "loom"}}},
            "kafka.sasl.username: kafka.securityProtocol PLAINTEXT knows no login; SASL_SSL or SASL_PLAINTEXT does",
        ),
        (
            {"kafka": {"tls": {"secretName": "x"}}},
            "kafka.tls.secretName: kafka.securityProtocol PLAINTEXT knows no certificates; SSL or SASL_SSL does",
        ),
        (
            sasl(tls={"secretName": "x", "certKey": "tls.crt"}),
            "kafka.tls: certKey and keyKey go together",
        ),
        (
            {"database": {"tls": {"certKey": "a", "keyKey": "b"}}},
            "database.tls.certKey: needs database.tls.secretName",
        ),
        (
            {"database": {"tls": {"mode": "require", "secretName": "x", "caKey": ""}}},
            "database.tls.caKey: is empty",
        ),
        (
            {"database": {"tls": {"mode": "verify-full"}}},
            "database.tls.secretName: mode verify-full needs the certificates that the server's is checked against",
        ),
        *(
            (
                {"database": {"tls": {"mode": mode, "secretName": "x"}}},
                f'database.tls.mode: "{mode}" checks nobody, whatever database.tls.secretName has; verify-full checks '
                "the server's certificate and name, verify-ca and require the certificate",
            )
            for mode in ("disable", "allow", "prefer")
        ),
        (
            {"migration": {"user": "owner"}},
            "migration.secret.name: is empty: name the Secret that has the password under migration.secret.key "
            '("password")',
        ),
        ({"database": {"tls": {"caKey": "a/b"}}}, 'database.tls.caKey: "a/b" can\'t be a key of a Secret'),
        (
            {"migration": {"secret": {"name": "owner"}}},
            "migration.secret: is only used with migration.user, the role that owns the tables",
        ),
    ],
)
def test_values_that_make_no_sense_are_refused_in_words(values: Object, said: str) -> None:
    assert refused(values) == [said]


def test_all_that_is_wrong_is_told_at_once() -> None:
    assert len(refused({"image": {"tag": "latest"}, "topics": "", "keda": {"enabled": True}})) == 3


@pytest.mark.parametrize("section", ["kafka", "database", "migration", "autoscaling"])
def test_a_whole_section_can_not_be_removed(section: str) -> None:
    assert refused({section: None}) == [f"'': missing property '{section}'"]
