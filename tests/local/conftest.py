"""These tests are about the wheels: a Docker engine on the machine is out of reach for them."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True, scope="module")
def _without_docker() -> object:
    patch = pytest.MonkeyPatch()
    patch.setenv("DOCKER_HOST", "unix:///nonexistent/docker.sock")
    for variable in ("LOOM_KAFKA_BOOTSTRAP_SERVERS", "LOOM_DATABASE_URL"):
        patch.delenv(variable, raising=False)
    yield
    patch.undo()
