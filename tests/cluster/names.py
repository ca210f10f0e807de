"""Images, namespaces and settings of the tests on a cluster, from environment variables."""

from __future__ import annotations

import os

from ingest.local import docker

IMAGE = os.environ.get("LOOM_TEST_IMAGE", "kafka-to-db-consumer:0.1.0")
"""The service's image; by default the chart's."""
FIX_IMAGE = os.environ.get("LOOM_TEST_FIX_IMAGE", "registry.example.org/loom/kafka-to-db-consumer:fixed")
"""The same or another one: what ``scripts/fix-consumer-lag.sh`` is to deploy. The cluster has it, or can pull it."""
RELEASES = {
    name: os.environ.get(f"LOOM_TEST_{name.upper()}_IMAGE", f"{FIX_IMAGE.rpartition(':')[0]}:{name}")
    for name in ("next", "broken", "unready")
}
"""What later releases may be, from ``releases/``: one with a revision more, one whose revision fails halfway, one that
migrates and does not start. Made by ``python -m tests.cluster.images``."""
NEXT_REVISION = "0f0f0f0f0f0f"
"""Of the first two."""
NEXT_COLUMN = ("device_sensor_gps_raw", "firmware")
"""Table and column that it adds."""
KAFKA_IMAGE = os.environ.get("LOOM_TEST_KAFKA_IMAGE", docker.KAFKA_IMAGE)
DATABASE_IMAGE = os.environ.get("LOOM_TEST_DATABASE_IMAGE", docker.DATABASE_IMAGE)
TIMESCALE = os.environ.get("LOOM_TEST_TIMESCALE", "required")
"""``off`` where the database's image has no TimescaleDB."""
NAMESPACE = "loom-dev"
RELEASE = "kafka-to-db-consumer"
