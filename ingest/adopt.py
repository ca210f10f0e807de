"""``ingest timescale adopt``: makes ordinary tables and plain views what they are declared to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy import MetaData
from sqlalchemy.exc import DBAPIError

from ingest.database import describe, sqlstate_of
from ingest.errors import FatalError, SettingsError
from ingest.migrate import migrating
from ingest.settings import DatabaseSettings, SchemaSettings, load_section
from ingest.timescale import Mode
from ingest.timescale.adopt import Step, carry_out, plan_of, refreshes_of

SOMETHING_DEPENDS_ON_IT = "2BP01"
"""SQLSTATE of a plain view that can't be dropped, because somebody's own view reads it."""


async def adopt(metadata: Sequence[MetaData], *, dry_run: bool, say: Callable[[str], object]) -> None:
    """Says and does each step, holding the lock of migrations; says only, where ``dry_run``.

    Rows are moved into chunks, which locks their table for as long as it takes. Raises IngestError, or the database's
    own errors; what was done before stays done.
    """
    mode = Mode(load_section(SchemaSettings).timescale)
    if mode is Mode.OFF:
        raise SettingsError("LOOM_TIMESCALE is off: set it to required or auto where hypertables are wanted")
    settings = load_section(DatabaseSettings)
    url = (settings.migration_url or settings.url).get_secret_value()

    async with migrating(url) as connection:

        async def take(steps: Sequence[Step]) -> None:
            await connection.rollback()  # what was only looked at
            for step in steps:
                for operation in step.operations:
                    say(f"{'would ' if dry_run else ''}{operation}")
                if not dry_run:
                    try:
                        await connection.run_sync(carry_out, step, mode)
                    except DBAPIError as error:
                        if sqlstate_of(error) == SOMETHING_DEPENDS_ON_IT:
                            raise FatalError(_of_dependents(error)) from error
                        raise

        plan = await connection.run_sync(plan_of, metadata, mode)
        await take(plan.before)
        planned = plan.before if dry_run and plan.continuous else ()
        refreshes = await connection.run_sync(refreshes_of, metadata, planned)
        await take(refreshes)
        await take(plan.after)
        if not (plan.before or refreshes or plan.after):
            say("everything is as declared")


def _of_dependents(error: DBAPIError) -> str:
    cause = error.orig.__cause__ if error.orig is not None else None
    who = "; ".join(str(getattr(cause, "detail", None) or "").splitlines())  # names of views, no values
    return (
        f"{describe(error)}{': ' if who else ''}{who}. Drop it, and make it anew when adopt is done: called again, it "
        "goes on where it was"
    )
