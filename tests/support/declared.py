"""Declared tables, compared with a database and carried out, as Alembic does it; without revisions in files."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.operations import Operations
from alembic.operations.ops import MigrationScript, OpContainer
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData
from sqlalchemy.dialects import postgresql

from ingest.database import create_plain_engine
from ingest.timescale import object_filter

Result = TypeVar("Result")


def on_database(url: str, work: Callable[[Connection], Result]) -> Result:
    """Runs ``work`` with a connection, as migrations have it."""

    async def inside() -> Result:
        engine = create_plain_engine(url, application_name="loom-ingest test")
        try:
            async with engine.connect() as connection:
                return await connection.run_sync(work)
        finally:
            await engine.dispose()

    return asyncio.run(inside())


def compared(connection: Connection, metadata: MetaData, mode: str = "required") -> MigrationScript:
    """What ``alembic revision --autogenerate`` proposes."""
    return without(connection, metadata, metadata, mode)


def without(connection: Connection, before: MetaData, after: MetaData, mode: str = "required") -> MigrationScript:
    """The same, where tables of ``before`` that are not in ``after`` are to be dropped."""
    script = produce_migrations(_context(connection, before, mode), [after])
    connection.rollback()
    return script


def proposed(connection: Connection, metadata: MetaData, mode: str = "required") -> list[tuple[str, str]]:
    """The operations and what they are about: what ``alembic check`` complains of."""
    return [named(difference) for difference in differences(compared(connection, metadata, mode))]


def differences(script: MigrationScript) -> list[Any]:
    """What its upgrade does, as Alembic's and our operations tell it."""
    assert script.upgrade_ops is not None
    return list(script.upgrade_ops.as_diffs())


def named(difference: Any) -> tuple[str, str]:
    """``("add_retention_policy", "doors", {…})`` → its first two."""
    if isinstance(difference, list):  # what changes of one column
        (difference, *_) = difference
    kind, what = difference[0], difference[1]
    return kind, getattr(what, "name", what)


def carry_out(connection: Connection, operations: OpContainer | None, mode: str = "required") -> None:
    """As one revision does: by the text that would stand in it."""
    assert operations is not None
    context = _context(connection, MetaData(), mode)
    body = render_python_code(operations)
    with context.begin_transaction(_per_migration=True), Operations.context(context) as op:
        code = f"from datetime import timedelta\ndef change():\n{body or '    pass'}\n"
        names: dict[str, Any] = {"op": op, "sa": sa, "postgresql": postgresql}
        exec(compile(code, "<revision>", "exec"), names)  # noqa: S102 - what was rendered is what is tested
        names["change"]()


def outside_transaction(connection: Connection, *statements: str) -> None:
    """Runs what can't run in one."""
    connection.rollback()
    with _context(connection, MetaData(), "required").autocommit_block():
        for each in statements:
            connection.execute(sa.text(each.replace(":", r"\:")))
    connection.rollback()


def _context(connection: Connection, metadata: MetaData, mode: str) -> MigrationContext:
    return MigrationContext.configure(
        connection,
        opts={
            "target_metadata": [metadata],
            "include_name": lambda name, kind, _: name in metadata.tables if kind == "table" else True,
            "include_object": object_filter([metadata]),
            "timescale": mode,
            "transaction_per_migration": True,
            "compare_type": True,
            "compare_server_default": True,
        },
    )
