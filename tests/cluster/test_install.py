"""The first install, into a namespace with Kafka and a database."""

from __future__ import annotations

import json

from ingest.local.waiting import wait_for
from tests.cluster.cluster import PODS, RELEASE, Installed, assignments, kubectl, run, sql
from tests.cluster.names import NAMESPACE, TIMESCALE
from tests.cluster.produce import PARTITIONS
from tests.cluster.stream import TOPICS, Stream


def test_the_first_install_migrates_and_then_starts_the_pods(installed: Installed) -> None:
    job = json.loads(kubectl("get", "job", f"{RELEASE}-migration", "--output", "json"))
    assert job["status"]["succeeded"] == 1
    listed = json.loads(kubectl("get", "pods", "--selector", f"app={RELEASE}", "--output", "json"))["items"]
    assert all(pod["metadata"]["creationTimestamp"] >= job["status"]["completionTime"] for pod in listed)
    assert sql("SELECT count(*) FROM alembic_version") == "1"
    if TIMESCALE == "required":
        assert int(sql("SELECT count(*) FROM timescaledb_information.hypertables")) > 10
    assert f"job/{RELEASE}-migration" in installed.notes


def test_three_pods_are_ready_and_share_the_partitions(three: list[object]) -> None:
    def shared() -> bool:
        rows = assignments()
        owners = {row.member for row in rows} - {"-"}
        return len(rows) == PARTITIONS * len(TOPICS) and len(owners) == PODS and all(row.member != "-" for row in rows)

    assert wait_for(shared, deadline_s=90, every_s=2), assignments()


def test_what_is_produced_is_consumed_exactly_once(stream: Stream, three: list[object], report: dict[str, str]) -> None:
    with stream.running() as seen:
        assert wait_for(lambda: seen.fewest_ready <= PODS, deadline_s=30, every_s=0.5)
    report["an undisturbed stream"] = f"{seen.stops}"
    assert seen.fewest_ready == PODS


def test_helms_own_test_passes(three: list[object]) -> None:
    done = run(["helm", "test", RELEASE, "--namespace", NAMESPACE, "--logs", "--timeout", "2m"], timeout_s=140)
    assert "Phase:          Succeeded" in done.stdout
