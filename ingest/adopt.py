"""``ingest timescale adopt``: makes ordinary tables and plain views what they are declared to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import MetaData

from ingest.errors import SettingsError
from ingest.migrate import migrating
from ingest.settings import DatabaseSettings, SchemaSettings, load_section
from ingest.timescale.adopt import Step, carry_out, refreshes_of, steps_to


async def adopt(metadata: Sequence[MetaData], *, dry_run: bool, say: Callable[[str], object]) -> None:
    """Says and does each step, holding the lock of migrations; says only, where ``dry_run``.

    Rows are moved into chunks, which locks their table for as long as it takes. Raises IngestError, or the database's
    own errors; what was done before stays done.
    """
    if load_section(SchemaSettings).timescale == "off":
        raise SettingsError("LOOM_TIMESCALE is off: set it to required or auto where hypertables are wanted")
    settings = load_section(DatabaseSettings)
    url = (settings.migration_url or settings.url).get_secret_value()

    def tell(step: Step) -> None:
        for operation in step.operations:
            say(f"{'would ' if dry_run else ''}{operation}")

    async with migrating(url) as connection:
        steps = await connection.run_sync(steps_to, metadata)
        await connection.rollback()
        for step in steps:
            tell(step)
            if not dry_run:
                await connection.run_sync(carry_out, step)
        refreshes = await connection.run_sync(refreshes_of, metadata)
        await connection.rollback()
        for step in refreshes:
            tell(step)
            if not dry_run:
                await connection.run_sync(carry_out, step)
        if not steps and not refreshes:
            say("everything is as declared")
