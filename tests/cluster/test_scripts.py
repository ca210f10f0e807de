"""The operators' scripts, and the three commands by which people verify, with the real programs."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ingest.local.waiting import wait_for
from tests.cluster.cluster import (
    PODS,
    RELEASE,
    Installed,
    Pod,
    assignments,
    consumer_groups,
    helm_command,
    kubectl,
    run,
    settings,
    until_settled,
)
from tests.cluster.names import FIX_IMAGE, NAMESPACE, RELEASES
from tests.cluster.stream import Stream
from tests.support.database import ROOT

DOCKER = """\
#!/bin/sh
# Stands in for Docker: the cluster has the image already. Tells what it was asked.
echo "docker $*" >> "{record}"
"""


def script(name: str, *arguments: str, path: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables, "NO_COLOR": "1"}
    environment.pop("LOOM_DATABASE_URL", None)
    environment.pop("LOOM_KAFKA_BOOTSTRAP_SERVERS", None)
    if path:
        environment["PATH"] = f"{path}:{environment['PATH']}"
    return subprocess.run(
        [ROOT / "scripts" / name, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )


def lag() -> int:
    return sum(int(row.lag) for row in assignments() if row.lag != "-")


def test_kafkas_own_tool_shows_the_groups_lag_fall_to_nothing(stream: Stream, three: list[Pod]) -> None:
    with stream.running(watch=False):
        pass
    assert "CURRENT-OFFSET" in consumer_groups()
    assert wait_for(lambda: lag() == 0, deadline_s=60, every_s=2), consumer_groups()


def test_the_pools_connections_are_counted_by_their_name(three: list[Pod]) -> None:
    statement = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%kafka%'"
    psql = ("psql", "-U", "loom", "-d", "loom", "-At", "-c", statement)
    counted = int(kubectl("exec", "deployment/timescaledb", "--", *psql))
    assert PODS <= counted <= PODS * 101


def test_kubectl_top_shows_the_pods_by_name_and_by_label(three: list[Pod], metrics: None) -> None:
    shown = run(["sh", "-c", f"kubectl top pods -n {NAMESPACE} | grep {RELEASE}"]).stdout
    assert {each.name for each in three} <= {line.split()[0] for line in shown.splitlines()}
    by_label = kubectl("top", "pods", "-l", f"app={RELEASE}", "--no-headers")
    assert {line.split()[0] for line in by_label.splitlines()} == {each.name for each in three}


def test_monitor_shows_all_its_parts_from_outside_the_cluster(
    stream: Stream, three: list[Pod], metrics: None, report: dict[str, str], transcripts: dict[str, str]
) -> None:
    with stream.running(watch=False):
        pass
    looks: list[str] = []

    def healthy() -> bool:
        done = script("monitor-consumer-lag.sh")
        looks.append(done.stdout + done.stderr)
        # The view counts pods that have reported within three minutes: those of the test before, too.
        return done.returncode == 0 and bool(re.search(rf"pods +\| {PODS}\n", looks[-1]))

    assert wait_for(healthy, deadline_s=400, every_s=10), looks[-1]
    look = looks[-1]
    assert re.search(r"0 messages behind in 12 partitions \(HEALTHY\), as Kafka has it", look)
    assert f"{PODS} of {PODS} ready" in look
    assert re.search(r"\d+ of the consumer, \d+ of all clients of the server", look)
    for each in three:
        assert len(re.findall(rf"^ *{each.name} +\d+m? +\d+Mi", look, re.MULTILINE)) == 1, look
    report["monitor-consumer-lag.sh"] = f"exit code 0 at look {len(looks)}"
    transcripts["monitor-consumer-lag.sh"] = look


@pytest.fixture
def docker(tmp_path: Path) -> Path:
    """A directory with a ``docker`` that does nothing, for the PATH."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(DOCKER.format(record=tmp_path / "docker.log"))
    program.chmod(0o755)
    return program.parent


def test_fix_deploys_the_image_and_follows_the_lag_until_healthy(
    stream: Stream, three: list[Pod], docker: Path, report: dict[str, str], transcripts: dict[str, str]
) -> None:
    registry, _, rest = FIX_IMAGE.rpartition("/")
    image, _, tag = rest.rpartition(":")
    named = {"REGISTRY": registry, "IMAGE": image, "TAG": tag}
    context = run(["kubectl", "config", "current-context"]).stdout.strip()
    dry = script("fix-consumer-lag.sh", "--dry-run", path=docker, **named)
    assert dry.returncode == 0, dry.stdout + dry.stderr
    assert not (docker.parent / "docker.log").exists()
    refused = script("fix-consumer-lag.sh", "--context", "another", "--yes", path=docker, **named)
    assert refused.returncode == 3, refused.stderr
    with stream.running() as seen:
        done = script("fix-consumer-lag.sh", "--context", context, "--yes", "--deadline", "120", path=docker, **named)
        transcripts["fix-consumer-lag.sh"] = done.stdout + done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
    calls = (docker.parent / "docker.log").read_text().splitlines()
    assert [call.split()[1] for call in calls] == ["build", "push"]
    now = until_settled()
    images = kubectl("get", "pods", "-l", f"app={RELEASE}", "-o", "jsonpath={.items[*].spec.containers[*].image}")
    assert set(images.split()) == {FIX_IMAGE}
    assert not {each.name for each in three} & {each.name for each in now}
    assert seen.fewest_ready >= PODS
    report["fix-consumer-lag.sh"] = f"exit code 0; never fewer than {seen.fewest_ready} pods ready; lost 0, twice 0"


def test_fix_rolls_back_when_the_migration_can_not_start(stream: Stream, docker: Path, installed: Installed) -> None:
    """An image that nobody has: the Job's time passes, Helm gives up, the old pods go on."""
    short = ("--set", "migration.activeDeadlineSeconds=60")
    run(helm_command("upgrade", *settings(), *short, "--wait", "--timeout", "5m"), timeout_s=320)
    before = until_settled()
    registry, _, rest = FIX_IMAGE.rpartition("/")
    named = {"REGISTRY": registry, "IMAGE": rest.rpartition(":")[0], "TAG": "nobody-has-this"}
    context = run(["kubectl", "config", "current-context"]).stdout.strip()
    with stream.running() as seen:
        done = script("fix-consumer-lag.sh", "--context", context, "--yes", path=docker, **named)
    assert done.returncode == 5, done.stdout + done.stderr
    assert {each.name for each in until_settled()} == {each.name for each in before}
    assert seen.fewest_ready >= PODS


def test_fix_rolls_back_when_the_pods_of_a_migrated_release_do_not_start(
    stream: Stream, three: list[Pod], docker: Path, report: dict[str, str], transcripts: dict[str, str]
) -> None:
    # Kubernetes calls a rollout failed after ten minutes without progress; the chart leaves that as it is.
    kubectl("patch", "deployment", RELEASE, "--patch", '{"spec": {"progressDeadlineSeconds": 45}}')
    registry, _, rest = RELEASES["unready"].rpartition("/")
    image, _, tag = rest.rpartition(":")
    context = run(["kubectl", "config", "current-context"]).stdout.strip()
    named = {"REGISTRY": registry, "IMAGE": image, "TAG": tag}
    with stream.running() as seen:
        done = script("fix-consumer-lag.sh", "--context", context, "--yes", path=docker, **named)
        transcripts["fix-consumer-lag.sh, pods that do not start"] = done.stdout + done.stderr
    assert done.returncode == 5, done.stdout + done.stderr
    assert "this release does not start" in done.stdout + done.stderr, "the pods' last lines are to be shown"
    assert {each.name for each in three} == {each.name for each in until_settled()}, "the old pods were to go on"
    assert seen.fewest_ready >= PODS
    report["fix-consumer-lag.sh, pods that do not start"] = f"exit code 5, rolled back; {seen.stops}; lost 0, twice 0"
