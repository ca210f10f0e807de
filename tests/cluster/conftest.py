"""The cluster, what is deployed into it, and the report of what was found. Run by ``make cluster-test``."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingest.local.waiting import wait_for
from tests.cluster import guard
from tests.cluster.cluster import (
    PODS,
    Installed,
    Pod,
    apply,
    helm_command,
    kubectl,
    rolled_out,
    run,
    settings,
    until_settled,
)
from tests.cluster.names import DATABASE_IMAGE, IMAGE, KAFKA_IMAGE, NAMESPACE
from tests.cluster.stream import TOPICS, Stream

HERE = Path(__file__).parent
REPORT = pytest.StashKey[dict[str, str]]()
TRANSCRIPTS = pytest.StashKey[dict[str, str]]()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """These tests are run where they are asked for by their path: a plain ``pytest`` needs no cluster."""
    asked = [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    for name, text in config.stash.get(TRANSCRIPTS, {}).items():
        terminalreporter.section(name)
        terminalreporter.write(text)
    found = config.stash.get(REPORT, {})
    if found:
        terminalreporter.section("cluster")
        for name, value in found.items():
            terminalreporter.write_line(f"{name}: {value}")


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> dict[str, str]:
    """What is printed at the end: versions, times, what was seen."""
    return pytestconfig.stash.setdefault(REPORT, {})


@pytest.fixture(scope="session")
def transcripts(pytestconfig: pytest.Config) -> dict[str, str]:
    """What the scripts printed, to be shown at the end."""
    return pytestconfig.stash.setdefault(TRANSCRIPTS, {})


@pytest.fixture(scope="session")
def cluster(report: dict[str, str], request: pytest.FixtureRequest) -> Iterator[None]:
    """A test cluster with Kafka, a database and topics in a namespace of its own; goes when no test has failed."""
    missing = [name for name in ("kubectl", "helm") if not shutil.which(name)]
    if missing:
        pytest.exit(f"cluster-test: {' and '.join(missing)} must be on the PATH", returncode=2)
    asked = run(["kubectl", "config", "current-context"], check=False)
    if asked.returncode:
        pytest.exit("cluster-test: kubectl has no current context: set KUBECONFIG", returncode=2)
    labels = {
        each["metadata"]["name"]: each["metadata"].get("labels", {})
        for each in json.loads(run(["kubectl", "get", "namespaces", "--output", "json"]).stdout)["items"]
    }
    refused = guard.refusal(asked.stdout.strip(), labels.get("kube-system", {}), labels.get(NAMESPACE))
    if refused:
        pytest.exit(f"cluster-test: refused: {refused}", returncode=2)
    if NAMESPACE in labels:
        _remove()
    versions = json.loads(run(["kubectl", "version", "--output", "json"]).stdout)
    report["Kubernetes"] = versions["serverVersion"]["gitVersion"]
    report["Helm"] = run(["helm", "version", "--short"]).stdout.strip()
    began = time.monotonic()
    run(["kubectl", "create", "namespace", NAMESPACE])
    run(["kubectl", "label", "namespace", NAMESPACE, f"{guard.LABEL}={guard.MADE}"])
    # A password that would break a URL.
    kubectl("create", "secret", "generic", "timescaledb-credentials", "--from-literal=password=l0@m/:?#%")
    kubectl("create", "configmap", "producer", f"--from-file={HERE / 'produce.py'}")
    apply("kafka", image=KAFKA_IMAGE)
    apply("timescaledb", image=DATABASE_IMAGE)
    apply("producer", image=IMAGE)
    kubectl("wait", "--for=condition=Ready", "pod/producer", "--timeout=120s", timeout_s=140)
    rolled_out("kafka")
    rolled_out("timescaledb")
    kubectl("exec", "producer", "--", "python", "/producer/produce.py", "topics", *TOPICS)
    report["Kafka, database and topics"] = f"{time.monotonic() - began:.0f} s"
    yield
    if not request.session.testsfailed:
        _remove()


def _remove() -> None:
    """Where a volume outlives its claim, as with the policy Retain, it stays."""
    run(["kubectl", "delete", "namespace", NAMESPACE, "--wait", "--timeout=180s"], timeout_s=200)


@pytest.fixture(scope="session")
def installed(cluster: None, report: dict[str, str]) -> Installed:
    """The first install, with the chart's own names and defaults but those of ``values.yaml``."""
    began = time.monotonic()
    done = run(helm_command("upgrade --install", *settings(), "--wait", "--timeout", "5m"), timeout_s=320)
    found = until_settled()
    seconds = time.monotonic() - began
    report["first install"] = f"{PODS} pods ready after {seconds:.0f} s"
    return Installed(done.stdout, seconds, found)


@pytest.fixture(scope="session")
def stream(installed: Installed) -> Stream:
    """What is produced and compared."""
    return Stream()


@pytest.fixture
def three(installed: Installed) -> list[Pod]:
    """The pods, when all are ready: no test begins in what another has left."""
    return until_settled()


@pytest.fixture(scope="session")
def metrics(installed: Installed) -> None:
    """metrics-server knows what the pods use; after their start it takes up to a minute."""
    assert wait_for(_measured, deadline_s=150, every_s=3), "kubectl top knows no pods: is metrics-server there?"


def _measured() -> bool:
    command = ["kubectl", "-n", NAMESPACE, "top", "pods", "-l", "app=kafka-to-db-consumer", "--no-headers"]
    return len(run(command, check=False).stdout.splitlines()) >= PODS
