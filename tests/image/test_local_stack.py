"""The containers of the local stack (``ingest.local.docker``), on a real engine."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from ingest.local import docker, kafka
from ingest.local.postgres import answers, query
from ingest.local.stack import running_stack
from tests.image import images
from tests.image.images import run
from tests.support.kafka import create_topics, end_offsets, produce


@pytest.fixture
def reaper(kafka_image: images.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    """testcontainers' own reaper is an image, too, and none stands in for it."""
    if kafka_image.stand_in:
        monkeypatch.setenv("TESTCONTAINERS_RYUK_DISABLED", "true")
        from testcontainers.core.config import testcontainers_config

        monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)


def containers(directory: Path) -> list[str]:
    names = {docker.container_name(kind, directory) for kind in ("kafka", "postgres")}
    return sorted(names & set(run("docker", "ps", "--all", "--format", "{{.Names}}").split()))


def test_containers_serve_keep_their_data_over_a_crash_and_go(
    reaper: None, database_image: images.Image, tmp_path: Path, report: dict[str, str]
) -> None:
    directory = tmp_path / "stack"
    said: list[str] = []
    began = time.monotonic()
    with running_stack(directory, say=said.append, environ={}, database_settings={"fsync": "off"}) as stack:
        report["local stack by Docker"] = f"{time.monotonic() - began:.0f} s"
        assert stack.kafka_served_by == f"docker: {docker.KAFKA_IMAGE}", said
        assert stack.database_served_by == f"docker: {docker.DATABASE_IMAGE}", said
        assert len(containers(directory)) == 2
        broker, server = stack.kafka_server, stack.database_server
        assert broker is not None and server is not None

        asyncio.run(create_topics(stack.kafka, ["kept"]))
        asyncio.run(produce(stack.kafka, "kept", [b"1", b"2"], partition=0))
        query(stack.database_url, "CREATE EXTENSION vector")
        query(stack.database_url, "CREATE TABLE kept AS SELECT 7 AS number")
        assert query(stack.database_url, "SELECT current_setting('fsync')")[0][0] == "off"

        for each in (broker, server):
            each.kill()
            assert not each.alive()
            each.start()
        assert asyncio.run(end_offsets(stack.kafka, "kept"))[0] == 2
        assert query(stack.database_url, "SELECT number FROM kept")[0][0] == 7

        server.stop()
        assert not answers(stack.database_url)
        host, _, port = stack.kafka.rpartition(":")
        assert kafka.serves(host, int(port))
    assert containers(directory) == []
    assert not directory.exists()
