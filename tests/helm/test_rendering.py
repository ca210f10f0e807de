"""Every combination of ``ci/`` renders, lints, and is accepted by several versions of Kubernetes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import helm_python as helm
import kubernetes_validate
import pytest

from tests.helm.chart import CHART, CI_FILES, DIRECTORY, NAME, NAMESPACE, Object, render, values_of

KUBERNETES = ("1.29", "1.31", "1.33", "1.34", "1.37")
NO_SCHEMA = {
    # Custom resources: their schemas belong to KEDA and the Prometheus Operator, not to Kubernetes. Their tests compare
    # the whole specification instead.
    "ScaledObject",
    "TriggerAuthentication",
    "ServiceMonitor",
}
by_file = pytest.mark.parametrize("path", CI_FILES, ids=[path.stem.removesuffix("-values") for path in CI_FILES])


def all_objects() -> dict[str, tuple[str, Object]]:
    """Every different object of all combinations, with where it is from."""
    return {
        json.dumps(each, sort_keys=True): (f"{path.name} {file}", each)
        for path in CI_FILES
        for file, each in render(values_of(path)).objects
    }


@by_file
def test_lints_strictly(path: Path) -> None:
    report = helm.lint(DIRECTORY, values_of(path), strict=True, namespace=NAMESPACE)
    assert report["errors"] == []
    # No icon is known for it.
    assert [each for each in report["messages"] if each["error"] != "icon is recommended"] == []


@by_file
def test_one_object_a_file(path: Path) -> None:
    files = [file for file, _ in render(values_of(path)).objects]
    assert len(files) == len(set(files))


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_every_object(version: str) -> None:
    checked = set()
    for where, each in all_objects().values():
        if each["kind"] not in NO_SCHEMA:
            try:
                kubernetes_validate.validate(each, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                pytest.fail(f"{where}: {'.'.join(map(str, error.path))}: {error.message}")
            checked.add(each["kind"])
    assert checked == {
        "Deployment", "HorizontalPodAutoscaler", "Job", "NetworkPolicy", "Pod", "PodDisruptionBudget", "Secret",
        "Service", "ServiceAccount",
    }  # fmt: skip


def test_the_check_by_kubernetes_schemas_can_fail() -> None:
    deployment = json.loads(json.dumps(render().deployment))
    deployment["spec"]["template"]["spec"]["containers"][0]["port"] = 80
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_the_oldest_version_checked_is_the_oldest_that_the_chart_installs_on() -> None:
    assert CHART.metadata["kubeVersion"] == f">={KUBERNETES[0]}.0-0"


def test_every_template_is_rendered_by_some_combination() -> None:
    rendered = {file for path in CI_FILES for file in render(values_of(path)).files}
    templates = {str(path.relative_to(DIRECTORY / "templates")) for path in (DIRECTORY / "templates").rglob("*.*")}
    assert {each for each in templates if not Path(each).name.startswith("_")} == rendered


@by_file
def test_names_are_found_by_the_services_name_and_fit(path: Path) -> None:
    for release in (NAME, "blue", "loom.prod", "a-name-of-53-characters-which-is-the-longest-possible"):
        for _, each in render(values_of(path), release=release).objects:
            name = each["metadata"]["name"]
            assert name.startswith("kafka-to-db-consumer")
            assert len(name) <= 63
            assert re.fullmatch("[a-z0-9]([-a-z0-9]*[a-z0-9])?", name)


@pytest.mark.parametrize("beginning", ["loom-ingest-of-the-eastern-region", f"{NAME}-of-the-eastern"])
def test_two_releases_of_a_namespace_share_no_name(beginning: str) -> None:
    def names(release: str) -> set[tuple[str, str]]:
        return {(each["kind"], each["metadata"]["name"]) for _, each in render(release=release).objects}

    one, other = f"{beginning}-and-its-zone-1", f"{beginning}-and-its-zone-2"
    assert max(len(one), len(other)) <= 53  # as long as a release's name can be
    assert names(one) & names(other) == set()
    assert names(one) == names(one)


def test_two_releases_that_differ_by_a_dot_share_no_name() -> None:
    names = [{each["metadata"]["name"] for _, each in render(release=it).objects} for it in ("loom.prod", "loom-prod")]
    assert names[0] & names[1] == set()


@pytest.mark.parametrize("version", KUBERNETES)
def test_names_of_digits_stay_texts(version: str) -> None:
    secret = {"name": "1", "key": "2"}
    values: Object = {
        "database": {"secret": secret, "tls": {"mode": "verify-full", "secretName": "3", "caKey": "4"}},
        "kafka": {
            "securityProtocol": "SASL_SSL",
            "sasl": {"username": "5", "secret": secret},
            "tls": {"secretName": "6", "caKey": "7"},
        },
        "priorityClassName": "8",
        "keda": {"enabled": True},
        "autoscaling": {"enabled": False},
        "networkPolicy": {"enabled": True},
    }
    for _, each in render(values, release="9").objects:
        assert isinstance(each["metadata"]["labels"]["app.kubernetes.io/instance"], str)
        if each["kind"] not in NO_SCHEMA:
            kubernetes_validate.validate(each, version, strict=True)


@by_file
def test_no_two_objects_have_one_name(path: Path) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for _, each in render(values_of(path)).objects]
    assert len(names) == len(set(names))


@by_file
def test_nothing_goes_to_another_namespace(path: Path) -> None:
    assert {each["metadata"]["namespace"] for _, each in render(values_of(path)).objects} == {NAMESPACE}


@by_file
def test_no_image_is_without_a_version(path: Path) -> None:
    for spec in render(values_of(path)).pod_specs():
        for container in spec["containers"]:
            tag = container["image"].split("@")[0].rsplit(":", 1)[1]
            assert re.fullmatch(r"\d+\.\d+\.\d+", tag)


@by_file
def test_no_pod_is_more_than_it_has_to_be(path: Path) -> None:
    for spec in render(values_of(path)).pod_specs():
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["serviceAccountName"].startswith(NAME)
        assert spec["securityContext"] == {
            "runAsNonRoot": True,
            "runAsUser": 10001,
            "runAsGroup": 10001,
            "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"name": "tmp", "mountPath": "/tmp"} in container["volumeMounts"]  # noqa: S108 - in the container
            assert {"requests", "limits"} <= set(container["resources"])
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


@by_file
def test_every_mount_has_its_volume(path: Path) -> None:
    for spec in render(values_of(path)).pod_specs():
        mounted = {mount["name"] for container in spec["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in spec["volumes"]}


@by_file
def test_no_password_stands_outside_of_a_secret(path: Path) -> None:
    values = json.dumps(values_of(path))
    passwords = [json.loads(found) for found in re.findall(r'"password": ("(?:[^"\\]|\\.)+")', values)]
    rendered = render(values_of(path))
    for file, text in rendered.files.items():
        if "secret" not in file:
            assert [each for each in passwords if each in text] == []
    if path.name.startswith("created"):
        assert len(passwords) == 3
