"""What operators do, and what happens to them, while a stream is consumed: nothing is lost, nothing is there twice."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from alembic.script import ScriptDirectory

from ingest.local.waiting import wait_for
from tests.cluster.cluster import (
    PODS,
    RELEASE,
    Pod,
    described,
    generation,
    helm_command,
    kubectl,
    pods,
    rolled_out,
    run,
    settings,
    settled,
    sql,
    uncordoned,
    until_settled,
)
from tests.cluster.names import IMAGE, NAMESPACE, NEXT_COLUMN, NEXT_REVISION, RELEASES
from tests.cluster.stream import Stream
from tests.support.database import ROOT

DRAIN = ("--ignore-daemonsets", "--delete-emptydir-data", f"--pod-selector=app={RELEASE}")


def names(of: list[Pod]) -> set[str]:
    return {each.name for each in of}


def test_a_deleted_pod_is_replaced_and_nothing_is_lost_or_repeated(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    before = generation()
    with stream.running() as seen:
        began = time.monotonic()
        kubectl("delete", "pod", three[0].name)
        gone_s = time.monotonic() - began
        now = until_settled()
    assert three[0].name not in names(now)
    assert sum(each.restarts for each in now) == 0
    report["a pod deleted"] = (
        f"gone after {gone_s:.1f} s; {seen.stops}; {generation() - before} rebalances; lost 0, twice 0"
    )


def test_a_killed_pod_is_replaced_and_nothing_is_lost_or_repeated(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    with stream.running() as seen:
        kubectl("delete", "pod", three[0].name, "--grace-period=0", "--force")
        now = until_settled()
    assert three[0].name not in names(now)
    report["a pod killed"] = f"{seen.stops}; lost 0, twice 0"


def test_a_restart_goes_on_with_the_old_pods_until_the_new_are_ready(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    before = generation()
    with stream.running() as seen:
        began = time.monotonic()
        kubectl("rollout", "restart", f"deployment/{RELEASE}")
        rolled_out(RELEASE)
        now = until_settled()
        took_s = time.monotonic() - began
    assert not names(three) & names(now)
    assert seen.fewest_ready >= PODS
    report["rollout restart"] = (
        f"{took_s:.0f} s; never fewer than {seen.fewest_ready} pods ready; {seen.stops}; "
        f"{generation() - before} rebalances; lost 0, twice 0"
    )


def test_an_upgrade_goes_on_with_the_old_pods_until_the_new_are_ready(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    before = generation()
    with stream.running() as seen:
        began = time.monotonic()
        changed = (*settings(), "--set", "podAnnotations.revision=second", "--wait", "--timeout", "5m")
        run(helm_command("upgrade", *changed), timeout_s=320)
        now = until_settled()
        took_s = time.monotonic() - began
    assert {each.annotations["revision"] for each in now} == {"second"}
    assert not names(three) & names(now)
    assert seen.fewest_ready >= PODS
    report["helm upgrade"] = (
        f"{took_s:.0f} s; never fewer than {seen.fewest_ready} pods ready; {seen.stops}; "
        f"{generation() - before} rebalances; lost 0, twice 0"
    )


@pytest.fixture
def next_release(three: list[Pod]) -> Iterator[None]:
    """Takes back what the later release leaves in the database: only its own image could."""
    yield
    table, column = NEXT_COLUMN
    head = ScriptDirectory(str(ROOT / "migrations")).get_current_head()
    sql(f"ALTER TABLE {table} DROP COLUMN IF EXISTS {column}; UPDATE alembic_version SET version_num = '{head}'")  # noqa: S608 - names of our own


def images() -> set[str]:
    listed = kubectl("get", "pods", "-l", f"app={RELEASE}", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    return set(listed.split())


def test_a_new_revision_comes_while_the_old_pods_go_on_and_they_can_come_back(
    stream: Stream, three: list[Pod], next_release: None, report: dict[str, str]
) -> None:
    with stream.running() as up:
        run(helm_command("upgrade", *settings(RELEASES["next"]), "--wait", "--timeout", "5m"), timeout_s=320)
        newer = until_settled()
        assert images() == {RELEASES["next"]}
    assert sql("SELECT version_num FROM alembic_version") == NEXT_REVISION
    assert not names(three) & names(newer)
    assert up.fewest_ready >= PODS
    with stream.running() as back:
        run(["helm", "rollback", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "5m"], timeout_s=320)
        older = until_settled()
        assert images() == {IMAGE}
    assert sql("SELECT version_num FROM alembic_version") == NEXT_REVISION, "a rollback leaves the schema as it is"
    assert back.fewest_ready >= PODS
    assert sum(each.restarts for each in older) == 0
    report["an upgrade with a new revision"] = (
        f"never fewer than {up.fewest_ready} pods ready; {up.stops}; rolled back, the former code on the newer schema: "
        f"{back.stops}; lost 0, twice 0"
    )


def test_a_migration_that_fails_halfway_stops_the_upgrade_and_consumption_goes_on(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    before, version = generation(), sql("SELECT version_num FROM alembic_version")
    with stream.running() as seen:
        wrong = (*settings(RELEASES["broken"]), "--set", "podAnnotations.revision=bad")
        done = run(helm_command("upgrade", *wrong, "--atomic", "--timeout", "5m"), timeout_s=320, check=False)
        now = until_settled()
    assert done.returncode != 0
    assert "pre-upgrade hooks failed" in done.stderr
    history = json.loads(run(["helm", "history", RELEASE, "-n", NAMESPACE, "-o", "json"]).stdout)
    assert [each["status"] for each in history[-2:]] == ["failed", "deployed"]
    assert history[-1]["description"].startswith("Rollback to")
    assert names(now) == names(three), "the old pods were to go on"
    assert generation() == before
    assert "division by zero" in kubectl("logs", "--selector", "app.kubernetes.io/component=migration", "--tail=-1")
    table, column = NEXT_COLUMN
    assert sql("SELECT version_num FROM alembic_version") == version
    assert column not in sql(f"SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'")  # noqa: S608 - a name of our own
    report["a migration that fails"] = f"rolled back; the same pods, no rebalance; {seen.stops}; lost 0, twice 0"


def test_a_drain_takes_one_ready_pod_and_is_refused_the_next(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    """One node can't take in again what it gives away: the second pod has to stay where it is."""
    node = kubectl("get", "pod", three[0].name, "--output", "jsonpath={.spec.nodeName}")
    with stream.running() as seen, uncordoned(node):
        drain = run(["kubectl", "drain", node, *DRAIN, "--timeout=30s"], timeout_s=60, check=False)
        assert drain.returncode != 0
        assert "violate the pod's disruption budget" in drain.stderr
        stayed = {each.name for each in pods() if each.ready and not each.leaving}
        assert len(stayed & names(three)) == PODS - 1, described()
        kubectl("uncordon", node)
        until_settled()
    assert seen.fewest_ready == PODS - 1
    report["node drained"] = f"one pod left, the budget kept the others; {seen.stops}; lost 0, twice 0"


def test_a_minute_without_database_restarts_no_pod_blocks_no_drain_and_heals_by_itself(
    stream: Stream, three: list[Pod], report: dict[str, str]
) -> None:
    node = kubectl("get", "pod", three[0].name, "--output", "jsonpath={.spec.nodeName}")
    with stream.running(watch=False):
        began = time.monotonic()
        kubectl("scale", "deployment/timescaledb", "--replicas=0")
        try:
            assert wait_for(lambda: not any(each.ready for each in pods()), deadline_s=90, every_s=1), described()
            unready_s = time.monotonic() - began
            run(["kubectl", "drain", node, *DRAIN, "--dry-run=server", "--timeout=30s"], timeout_s=60)
            over = began + 60
            assert wait_for(lambda: time.monotonic() > over, deadline_s=60, every_s=1)
            assert not any(each.ready for each in pods())
        finally:
            kubectl("scale", "deployment/timescaledb", "--replicas=1")
        rolled_out("timescaledb")
        back = time.monotonic()
        assert wait_for(settled, deadline_s=180, every_s=1), described()
        healed_s = time.monotonic() - back
        now = pods()
    assert names(now) == names(three)
    assert sum(each.restarts for each in now) == sum(each.restarts for each in three)
    report["database away for a minute"] = (
        f"no pod ready after {unready_s:.0f} s, no restart, evictions allowed; all ready {healed_s:.0f} s after the "
        "database was; lost 0, twice 0"
    )
