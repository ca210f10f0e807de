"""The schema is newer than the service: an upgrade whose old pods go on, or a release that was taken back."""

from __future__ import annotations

import asyncio

from tests.acceptance.conftest import Stream, System
from tests.support.topics import GPS, PLAIN

NEXT_RELEASE = """
ALTER TABLE test_plain ADD COLUMN added_later text;
ALTER TABLE device_sensor_gps_raw ADD COLUMN added_later double precision DEFAULT 1, ALTER COLUMN speed SET DEFAULT 0;
CREATE INDEX added_later_idx ON device_sensor_gps_raw (added_later);
ALTER TABLE ingest_offsets ADD COLUMN added_later int;
ALTER TABLE ingest_dead_letters ADD COLUMN added_later text;
UPDATE alembic_version SET version_num = 'later'
"""
"""What expands a schema: nothing that is there changes its name or its type, and nothing new wants a value."""


async def test_old_code_goes_on_and_starts_anew_on_a_newer_schema(system: System, stream: Stream) -> None:
    old = system.service()
    old.wait_until_said("partitions assigned")
    running = asyncio.create_task(stream.run(total=1_000_000))
    await system.written(PLAIN, at_least=1_000)
    for statement in NEXT_RELEASE.split(";"):
        await system.sql(statement)
    seen = sum(await system.account(PLAIN))
    await system.written(PLAIN, at_least=seen + 2_000)
    restarted = system.service()  # as after a rollback, or when a node goes while the upgrade waits
    restarted.wait_until_said("partitions assigned")
    assert old.stop() == 0
    await system.written(PLAIN, at_least=sum(await system.account(PLAIN)) + 2_000)
    stream.stop.set()
    await running
    await system.produce(PLAIN, [b"no JSON"])
    await system.caught_up([PLAIN, GPS])
    assert await system.account(PLAIN) == (len(stream.sent), 0, 1)
    assert await system.account(GPS) == (len(stream.sent), 0, 0)
    await system.assert_nothing_lost_nothing_twice(stream.sent)
    assert restarted.stop() == 0
    assert [line for service in system.services for line in service.said("lane stopped")] == []
