"""The cluster, by ``kubectl`` and ``helm`` as an operator would use them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from ingest.local.waiting import wait_for
from tests.cluster.names import IMAGE, NAMESPACE, RELEASE, TIMESCALE
from tests.support.database import ROOT

Object = dict[str, Any]
CHART = ROOT / "helm" / RELEASE
VALUES = Path(__file__).with_name("values.yaml")
GROUP = "kafka-to-db-consumer"
PODS = 3


def run(
    command: Sequence[str | Path], *, given: str | None = None, timeout_s: float = 120, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end. With ``check``, fails with all that it said."""
    done = subprocess.run(
        [str(each) for each in command], input=given, capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0 or not check, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done


def kubectl(*arguments: str, given: str | None = None, timeout_s: float = 120) -> str:
    """In the namespace of the tests."""
    return run(["kubectl", "--namespace", NAMESPACE, *arguments], given=given, timeout_s=timeout_s).stdout


def helm_command(action: str, *arguments: str) -> list[str | Path]:
    """``helm upgrade …`` with the chart and the values of the tests."""
    return ["helm", *action.split(), RELEASE, CHART, "--namespace", NAMESPACE, "--values", VALUES, *arguments]


def settings(image: str = IMAGE) -> tuple[str, ...]:
    """Helm's arguments for the images."""
    repository, _, tag = image.rpartition(":")
    images = ("--set", f"image.repository={repository}", "--set-string", f"image.tag={tag}")
    return (*images, "--set-string", f"database.timescale={TIMESCALE}")


def apply(name: str, **names: str) -> None:
    """One of ``manifests/``, with its ``$names`` replaced."""
    text = Path(__file__).with_name("manifests").joinpath(f"{name}.yaml").read_text()
    kubectl("apply", "--filename", "-", given=Template(text).substitute(names))


def rolled_out(deployment: str, within_s: float = 240) -> None:
    kubectl("rollout", "status", f"deployment/{deployment}", f"--timeout={within_s:.0f}s", timeout_s=within_s + 20)


@dataclass(frozen=True)
class Pod:
    """One of the consumer's pods, as the cluster has it now."""

    name: str
    uid: str
    ready: bool
    leaving: bool
    restarts: int
    annotations: dict[str, str]


@dataclass(frozen=True)
class Installed:
    """The release after its first install, and what Helm said."""

    notes: str
    seconds: float
    """Until three pods were ready."""
    pods: list[Pod]


def pods() -> list[Pod]:
    """The consumer's; without those that have ended."""
    listed = json.loads(kubectl("get", "pods", "--selector", f"app={RELEASE}", "--output", "json"))["items"]
    return [_pod(each) for each in listed if each["status"]["phase"] in ("Pending", "Running")]


def _pod(found: Object) -> Pod:
    metadata, status = found["metadata"], found["status"]
    return Pod(
        metadata["name"],
        metadata["uid"],
        any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", [])),
        "deletionTimestamp" in metadata,
        sum(each["restartCount"] for each in status.get("containerStatuses", [])),
        metadata.get("annotations", {}),
    )


def settled(number: int = PODS) -> bool:
    """Whether there are exactly so many pods, all ready."""
    found = pods()
    return len(found) == number and all(each.ready and not each.leaving for each in found)


def until_settled(number: int = PODS, within_s: float = 240) -> list[Pod]:
    assert wait_for(lambda: settled(number), deadline_s=within_s, every_s=1), described()
    return pods()


def described() -> str:
    """What to read when pods are not as they should be."""
    parts = (("get", "pods", "-o", "wide"), ("logs", "-l", f"app={RELEASE}", "--prefix", "--tail=15"))
    return "\n".join(run(["kubectl", "-n", NAMESPACE, *part], check=False).stdout for part in parts)


def sql(statement: str) -> str:
    """The answer of ``psql`` in the database's pod: columns by ``|``, a row a line."""
    psql = ("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "loom", "-d", "loom")
    return kubectl("exec", "-i", "deployment/timescaledb", "--", *psql, given=statement).strip()


def consumer_groups() -> str:
    """What Kafka's own tool says of the group."""
    tool = "/opt/kafka/bin/kafka-consumer-groups.sh"
    asked = ("--bootstrap-server", "kafka:9092", "--describe", "--group", GROUP)
    return kubectl("exec", "deployment/kafka", "--", tool, *asked)


@dataclass(frozen=True)
class Assigned:
    """A line of Kafka's tool: a partition, how far the group is, and whose it is."""

    topic: str
    partition: int
    lag: str
    member: str


def assignments() -> list[Assigned]:
    rows = [line.split() for line in consumer_groups().splitlines() if line.startswith(GROUP)]
    return [Assigned(row[1], int(row[2]), row[5], row[6]) for row in rows]


def generation() -> int:
    """How often the group has balanced itself so far, by the broker's log."""
    mark = f"Stabilized group {GROUP} generation "
    numbers = [
        int(line.split(mark)[1].split()[0]) for line in kubectl("logs", "deployment/kafka").splitlines() if mark in line
    ]
    assert numbers, "the broker logs no rebalance: its log level is above INFO"
    return max(numbers)


@contextmanager
def uncordoned(node: str) -> Iterator[None]:
    """Takes pods again at the end, whatever happened."""
    try:
        yield
    finally:
        kubectl("uncordon", node)
