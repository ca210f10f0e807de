"""The chart rendered by Helm's own code, without a cluster; once for each set of values."""

from __future__ import annotations

import base64
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

from tests.support.database import ROOT

DIRECTORY = ROOT / "helm" / "kafka-to-db-consumer"
NAME = "kafka-to-db-consumer"
NAMESPACE = "loom-dev"
CI_FILES = sorted((DIRECTORY / "ci").glob("*-values.yaml"))
CHART = helm.Chart.load(DIRECTORY)

Object = dict[str, Any]
# Either is safe; the first is ten times as fast.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass
class Rendered:
    """What Helm made of the templates."""

    files: dict[str, str]
    """Path below templates/ → its text; without those that rendered to nothing."""

    @property
    def notes(self) -> str:
        return self.files["NOTES.txt"]

    @functools.cached_property
    def objects(self) -> list[tuple[str, Object]]:
        """Every object, with the file that it came from. Not to be changed: others read it too."""
        return [
            (path, document)
            for path, text in self.files.items()
            if path != "NOTES.txt"
            for document in yaml.load_all(text, LOADER)
            if document
        ]

    def all(self, kind: str) -> list[Object]:
        return [each for _, each in self.objects if each["kind"] == kind]

    def one(self, kind: str, component: str = "consumer") -> Object:
        """The only object of a kind that belongs to a component: consumer, migration or test."""
        (found,) = [
            each for each in self.all(kind) if each["metadata"]["labels"]["app.kubernetes.io/component"] == component
        ]
        return found

    @property
    def deployment(self) -> Object:
        return self.one("Deployment")

    @property
    def pod(self) -> Object:
        """The specification of the consumer's pods."""
        spec: Object = self.deployment["spec"]["template"]["spec"]
        return spec

    @property
    def consumer(self) -> Object:
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def job(self) -> Object:
        return self.one("Job", "migration")

    @property
    def test_pod(self) -> Object:
        return self.one("Pod", "test")

    def pod_specs(self) -> list[Object]:
        """Of everything that becomes a pod."""
        specs = [self.pod, self.test_pod["spec"]]
        return specs + [job["spec"]["template"]["spec"] for job in self.all("Job")]


def render(values: Object | None = None, *, release: str = NAME, upgrade: bool = False) -> Rendered:
    """Raises helm.HelmError with what a user of these values reads."""
    return _render(json.dumps(values or {}), release, upgrade)


@functools.cache
def _render(values: str, release: str, upgrade: bool) -> Rendered:
    files = CHART.render(
        json.loads(values), name=release, namespace=NAMESPACE, is_install=not upgrade, is_upgrade=upgrade
    )
    return Rendered({path.split("/templates/", 1)[1]: text for path, text in sorted(files.items()) if text.strip()})


def ci(name: str) -> Rendered:
    """One of ``ci/*-values.yaml``, by the first part of its name."""
    return render(values_of(DIRECTORY / "ci" / f"{name}-values.yaml"))


def values_of(path: Path) -> Object:
    return dict(yaml.safe_load(path.read_text()))


def environment(container: Object) -> dict[str, Any]:
    """Variable → its value, or where it comes from."""
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in container["env"]}


def secret_of(variable: Any) -> tuple[str, str]:
    """Name and key of the Secret that a variable comes from."""
    reference = variable["secretKeyRef"]
    return reference["name"], reference["key"]


def decoded(secret: Object) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def set_value(path: str, value: Any) -> Object:
    """``{"kafka": {"groupId": value}}`` for ``kafka.groupId``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)
