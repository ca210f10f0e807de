"""What Kubernetes or a registry would refuse is refused before anything is changed, with the value's name."""

from __future__ import annotations

import pytest

from tests.helm.chart import Object, render
from tests.helm.refusals import refused


@pytest.mark.parametrize(
    ("values", "said"),
    [
        *(
            (
                {"image": {"repository": name}},
                f'image.repository: "{name}" is no name of an image like '
                "registry.example.com/loom/kafka-to-db-consumer; version and digest are image.tag and image.digest",
            )
            for name in (
                "UPPER/Case",
                "x:1.0",
                "registry:5000/x:1.0",
                f"x@sha256:{'0' * 64}",
                "https://registry/x",
                "x/",
            )
        ),
        ({"image": {"tag": "a b"}}, 'image.tag: "a b" is no tag: letters, digits, _, . and -, at most 128 of them'),
        *(
            (values, f'{where}: "{name}" can\'t be a name in Kubernetes: lower-case letters, digits, - and .')
            for values, where, name in (
                ({"priorityClassName": "Bad Name"}, "priorityClassName", "Bad Name"),
                ({"database": {"secret": {"name": "a_b"}}}, "database.secret.name", "a_b"),
                ({"database": {"tls": {"mode": "require", "secretName": "-a"}}}, "database.tls.secretName", "-a"),
                ({"image": {"pullSecrets": [{"name": "a/b"}]}}, "image.pullSecrets[0].name", "a/b"),
            )
        ),
        *(
            (
                {"podDisruptionBudget": {"maxUnavailable": share}},
                f"podDisruptionBudget.maxUnavailable: {share} is more than all pods",
            )
            for share in ("101%", "200%", f"{10**20}%")
        ),
        (
            {"database": {"parameters": {"a&sslmode": "disable"}}},
            'database.parameters: "a&sslmode" can\'t be the name of a parameter',
        ),
        ({"extraEnv": [{"name": "1BAD NAME"}]}, 'extraEnv: "1BAD NAME" can\'t be the name of a variable'),
        (
            {"extraEnv": [{"name": "A", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]},
            "extraEnv: A has both value and valueFrom",
        ),
        *(
            ({"migration": {"command": command}}, "migration.command: is empty; leave it out for alembic upgrade head")
            for command in ([], [""])  # [""]: what --set makes of {}
        ),
        ({"podLabels": {"app": "x"}}, "podLabels: app is set by the chart"),
        (
            {"serviceMonitor": {"labels": {"app.kubernetes.io/name": "x"}}},
            "serviceMonitor.labels: app.kubernetes.io/name is set by the chart",
        ),
        (
            {"podAnnotations": {"version/database-secret": "x"}},
            "podAnnotations: version/database-secret is set by the chart",
        ),
        (
            {"podAnnotations": {"a b": "any text"}},
            'podAnnotations: "a b" can\'t be the name of a label or annotation, such as team or example.com/team',
        ),
        (
            {"nodeSelector": {"disk": "s s"}},
            'nodeSelector.disk: "s s" can\'t be the value of a label: letters, digits, -, _ and ., at most 63 of them',
        ),
    ],
)
def test_what_kubernetes_would_refuse_is_refused_in_words(values: Object, said: str) -> None:
    assert refused(values) == [said]


@pytest.mark.parametrize(
    ("resources", "said"),
    [
        ({"requests": {"memory": "1GB"}}, 'resources.requests.memory: "1GB" is no quantity; 512Mi and 1Gi are'),
        ({"limits": {"cpu": "two"}}, 'resources.limits.cpu: "two" is no quantity; 500m and 2 are'),
        (
            {"limits": {"memory": "512m"}},
            'resources.limits.memory: "512m" is a part of a byte; 512Mi and 1Gi are bytes',
        ),
        (
            {"limits": {"memroy": "1Gi"}},
            "resources.limits.memroy: a container knows no such resource; cpu, memory and ephemeral-storage it knows",
        ),
        ({"requests": {"memory": "4Gi"}}, "resources.requests.memory: 4Gi is more than resources.limits.memory, 2Gi"),
        ({"requests": {"cpu": 2.001}}, "resources.requests.cpu: 2.001 is more than resources.limits.cpu, 2"),
        ({"limits": {"cpu": "999m"}}, "resources.requests.cpu: 1 is more than resources.limits.cpu, 999m"),
        ({"limits": {"memory": "1G"}}, "resources.requests.memory: 1Gi is more than resources.limits.memory, 1G"),
        *(
            (
                resources,
                "autoscaling.targetCPUUtilizationPercentage: is a part of resources.requests.cpu, which is not given; "
                "give it, or set the target to 0",
            )
            for resources in ({"requests": {"cpu": None}, "limits": {"cpu": None}}, {"requests": {"cpu": 0}})
        ),
    ],
)
def test_resources_that_no_pod_could_have_are_refused_in_words(resources: Object, said: str) -> None:
    assert refused({"resources": resources}) == [said]


def test_resources_of_the_migration_are_looked_at_too() -> None:
    assert refused({"migration": {"resources": {"requests": {"cpu": "2"}}}}) == [
        "migration.resources.requests.cpu: 2 is more than migration.resources.limits.cpu, 1"
    ]


@pytest.mark.parametrize(
    "resources",
    [
        {"requests": {"cpu": "2000m", "memory": 2147483648}},
        {"requests": {"cpu": ".7"}, "limits": {"cpu": "700m"}},
        {
            "requests": {"memory": "2.5e8", "ephemeral-storage": "1G"},
            "limits": {"memory": "250M", "example.com/gpu": 1},
        },
        {"requests": {"cpu": None}},  # the limit counts
        {"limits": None},
    ],
)
def test_resources_may_be_written_in_every_way_that_kubernetes_knows(resources: Object) -> None:
    render({"resources": resources})
