"""Which clusters ``make cluster-test`` refuses."""

from __future__ import annotations

import pytest

from tests.cluster.guard import ALLOWED, LABEL, MADE, refusal


@pytest.mark.parametrize("context", ["k3d-loom", "kind-kind", "minikube"])
def test_a_local_cluster_is_taken(context: str) -> None:
    assert refusal(context, {}, None) == ""


def test_another_cluster_is_refused_with_the_way_to_allow_it() -> None:
    refused = refusal("production", {}, None)
    assert "'production' does not look like a test cluster" in refused
    assert f"kubectl label namespace kube-system {LABEL}={ALLOWED}" in refused
    assert refusal("production", {LABEL: "no"}, None)


def test_another_cluster_is_taken_when_somebody_has_said_that_it_is_for_tests() -> None:
    assert refusal("box", {LABEL: ALLOWED}, None) == ""


@pytest.mark.parametrize("context", ["k3d-loom", "box"])
def test_a_namespace_that_the_tests_have_not_made_is_never_touched(context: str) -> None:
    assert "have not made" in refusal(context, {LABEL: ALLOWED}, {})
    assert refusal(context, {LABEL: ALLOWED}, {LABEL: MADE}) == ""
