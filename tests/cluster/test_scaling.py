"""The autoscaler, by real CPU load as metrics-server measures it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

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
    run,
    settings,
    settled,
    until_settled,
)
from tests.cluster.names import NAMESPACE
from tests.cluster.stream import Stream

MOST = 6
QUICK = (
    *("--set", f"autoscaling.maxReplicas={MOST}"),
    *("--set", "autoscaling.behavior.scaleUp.stabilizationWindowSeconds=15"),
    *("--set", "autoscaling.behavior.scaleDown.stabilizationWindowSeconds=30"),
    *("--set", "autoscaling.behavior.scaleDown.policies[0].type=Percent"),
    *("--set", "autoscaling.behavior.scaleDown.policies[0].value=50"),
    *("--set", "autoscaling.behavior.scaleDown.policies[0].periodSeconds=30"),
)
BURN = """\
import os, sys, threading, time
# What exec starts outlives its client: the input's end ends it, or five minutes.
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
end = time.monotonic() + 300
while time.monotonic() < end:
    busy = time.process_time() + 0.04  # of each tenth of a second: the machine has other things to do, too
    while time.process_time() < busy:
        pass
    time.sleep(0.06)
"""


@contextmanager
def burning(of: list[Pod]) -> Iterator[None]:
    """A busy process in each of these pods."""
    command = ("kubectl", "--namespace", NAMESPACE, "exec")
    started = [
        subprocess.Popen(
            [*command, "-i", each.name, "--", "python", "-c", BURN],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for each in of
    ]
    try:
        yield
    finally:
        for each in started:
            assert each.stdin is not None
            each.stdin.close()
        for each in started:
            each.wait(30)


@pytest.fixture
def quick_autoscaler(three: list[Pod]) -> Iterator[None]:
    """Up to six pods, with windows of seconds instead of minutes."""
    run(helm_command("upgrade", *settings(), *QUICK, "--wait", "--timeout", "5m"), timeout_s=320)
    until_settled()
    yield
    run(helm_command("upgrade", *settings(), "--wait", "--timeout", "5m"), timeout_s=320)
    until_settled()


def replicas() -> int:
    return int(kubectl("get", "deployment", RELEASE, "--output", "jsonpath={.spec.replicas}"))


def test_load_scales_out_and_in_again_without_needless_rebalances(
    quick_autoscaler: None, stream: Stream, metrics: None, report: dict[str, str]
) -> None:
    three = until_settled()
    before = generation()
    with stream.running() as seen:
        began = time.monotonic()
        with burning(three):
            # How many pods it wants depends on how much of the load a busy machine lets through.
            assert wait_for(lambda: replicas() > PODS, deadline_s=180, every_s=1), kubectl("describe", "hpa", RELEASE)
            scaled_s = time.monotonic() - began
            assert wait_for(lambda: len(pods()) > PODS and settled(len(pods())), deadline_s=120, every_s=1), described()
        most = 0

        def shrunk() -> bool:
            nonlocal most
            most = max(most, len(pods()))
            return settled(PODS)

        began = time.monotonic()
        assert wait_for(shrunk, deadline_s=300, every_s=1), described()
        shrunk_s = time.monotonic() - began
    rebalances = generation() - before
    report["scaled by CPU"] = (
        f"{PODS} to {most} pods, the first {scaled_s:.0f} s after the load began, back {shrunk_s:.0f} s after it "
        f"ended; {rebalances} rebalances; {seen.stops}; "
        "lost 0, twice 0"
    )
    # At worst each pod that comes joins alone, and each that goes leaves alone.
    assert 2 <= rebalances <= 2 * (most - PODS)
    assert {each.restarts for each in pods()} == {0}
