"""Where there is a cluster to ask, what is missing or in the way is told before anything is changed."""

from __future__ import annotations

from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.helm.chart import CHART, DIRECTORY, NAME, NAMESPACE, Object, ci, values_of
from tests.helm.cluster import api_server

CREDENTIALS = {"timescaledb-credentials": {"keys": ["password"]}}


def install(
    secrets: dict[str, Object], values: Object | None = None, autoscalers: dict[str, int] | None = None
) -> dict[str, str]:
    with (
        api_server(secrets, autoscalers) as address,
        helm.Config(
            kubeconfig_content=yaml.safe_dump(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "stand-in", "cluster": {"server": address}}],
                    "users": [{"name": "nobody", "user": {}}],
                    "contexts": [{"name": "stand-in", "context": {"cluster": "stand-in", "user": "nobody"}}],
                    "current-context": "stand-in",
                }
            ),
            namespace=NAMESPACE,
        ) as cluster,
    ):
        return cluster.render(CHART, values or {}, name=NAME, namespace=NAMESPACE, is_install=True)


def refused(
    secrets: dict[str, Object], values: Object | None = None, autoscalers: dict[str, int] | None = None
) -> list[str]:
    with pytest.raises(helm.HelmRenderError) as raised:
        install(secrets, values, autoscalers)
    return [line for line in str(raised.value).splitlines() if ": " in line and "templates/" not in line]


def annotations(files: dict[str, str]) -> dict[str, Any]:
    deployment = yaml.safe_load(files[f"{NAME}/templates/deployment.yaml"])
    found: dict[str, Any] = deployment["spec"]["template"]["metadata"]["annotations"]
    return found


def test_default_install_says_how_to_make_the_databases_secret() -> None:
    assert refused({}) == [
        'database.secret.name: there is no Secret "timescaledb-credentials" in namespace loom-dev; make it: '
        "kubectl create "
        "secret generic timescaledb-credentials -n loom-dev --from-literal=password='…'"
    ]


def test_a_secret_without_the_key_is_told_with_the_keys_it_has() -> None:
    assert refused({"timescaledb-credentials": {"keys": ["username", "pass"]}}) == [
        'database.secret.name: Secret "timescaledb-credentials" has no key "password"; it has pass, username'
    ]


def test_every_secret_that_is_named_is_looked_for() -> None:
    login = refused(CREDENTIALS, values_of(DIRECTORY / "ci" / "existing-secrets-values.yaml"))
    assert [line.split(" in namespace")[0] for line in login] == [
        'database.secret.name: there is no Secret "loom-service"',
        'kafka.sasl.secret.name: there is no Secret "kafka-users"',
        'migration.secret.name: there is no Secret "loom-owner"',
    ]
    certificates = refused(CREDENTIALS, values_of(DIRECTORY / "ci" / "tls-values.yaml"))
    assert certificates == [
        f'{where}.tls.secretName: there is no Secret "{where}-client" in namespace loom-dev; make it: kubectl '
        f'create secret '
        f"generic {where}-client -n loom-dev --from-file=ca.crt --from-file=tls.crt --from-file=tls.key"
        for where in ("database", "kafka")
    ]  # fmt: skip


def test_what_is_there_is_installed() -> None:
    assert "kind: Deployment" in install(CREDENTIALS)[f"{NAME}/templates/deployment.yaml"]


def test_created_secrets_are_not_looked_for() -> None:
    install({}, values_of(DIRECTORY / "ci" / "created-secrets-values.yaml"))


def test_without_a_cluster_nothing_is_looked_for() -> None:
    assert ci("default").deployment["kind"] == "Deployment"


def test_a_changed_secret_makes_new_pods_at_the_next_upgrade() -> None:
    def version(resource_version: str) -> Any:
        secret = CREDENTIALS["timescaledb-credentials"] | {"resourceVersion": resource_version}
        return annotations(install({"timescaledb-credentials": secret}))["version/database-secret"]

    assert (version("7"), version("8")) == ("7", "8")
    assert version("7") == version("7")


def test_keda_waits_until_the_releases_own_autoscaler_has_gone() -> None:
    by_lag = values_of(DIRECTORY / "ci" / "keda-plain-values.yaml")
    assert refused(CREDENTIALS, by_lag, {NAME: 5}) == [
        f"keda.enabled: HorizontalPodAutoscaler {NAME} is still there, and KEDA takes no Deployment that another "
        "autoscaler has. In two upgrades: first autoscaling.enabled=false and replicaCount=5, which removes it; then "
        "keda.enabled=true"
    ]
    # KEDA's own has another name; without KEDA nothing is in the way.
    install(CREDENTIALS, by_lag, {f"keda-hpa-{NAME}": 5})
    install(CREDENTIALS, {}, {NAME: 5})
    install(CREDENTIALS, {"autoscaling": {"enabled": False}, "replicaCount": 5}, {NAME: 5})
