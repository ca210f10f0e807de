"""Which clusters these tests may use: they make and delete the namespace ``loom-dev``, and cordon a node."""

from __future__ import annotations

from collections.abc import Mapping

LABEL = "loom-ingest/cluster-test"
ALLOWED = "allowed"
"""The label's value on namespace kube-system, by which somebody says: this is a test cluster."""
MADE = "made"
"""Its value on a namespace that these tests have made, and may delete."""
LOCAL = ("k3d-", "kind-", "minikube")
"""What the names of contexts begin with that k3d, kind and minikube make."""


def refusal(context: str, system_labels: Mapping[str, str], namespace_labels: Mapping[str, str] | None) -> str:
    """Why the cluster is not one to test on, in words; empty if it is.

    :param system_labels: of the namespace kube-system.
    :param namespace_labels: of the namespace that the tests want; None if there is no such namespace.
    """
    if not context.startswith(LOCAL) and system_labels.get(LABEL) != ALLOWED:
        return (
            f"context {context!r} does not look like a test cluster: its name does not begin with {', '.join(LOCAL)}. "
            f"If it is one: kubectl label namespace kube-system {LABEL}={ALLOWED}"
        )
    if namespace_labels is not None and namespace_labels.get(LABEL) != MADE:
        return "there is a namespace loom-dev that these tests have not made; they would delete it"
    return ""
