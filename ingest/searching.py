"""Finds the staged rows that the database refuses, in the server: part by part, each under a savepoint.

A sequence counts the rows that a statement has come to. It is not rolled back, so it says at which row the statement
ended. That is only where to divide: each row is refused by itself, or written. Where the statement had come to all its
rows, because something is looked at only then, the middle serves.

Promise kept here: one bad row costs O(log n) statements, and no row is sent twice. What is no refusal of a row (a
timeout, a lost right) ends the search as it would have ended the statement.
"""

from __future__ import annotations

import json

from sqlalchemy.ext.asyncio import AsyncConnection

from ingest.database import RECORD_CLASSES, RECORD_SQLSTATES
from ingest.errors import RecordError

LOW, HIGH = "ingest_low", "ingest_high"
"""The search's variables: from which ordinal on, and up to which, rows are inserted."""
AT = "pg_temp.ingest_at"
"""The sequence. Every row that is inserted takes a number of it."""
SMALLEST = 64
"""Rows of a part to begin with, and again after refusals."""
_CREATE = f"CREATE TEMPORARY SEQUENCE IF NOT EXISTS {AT}"
_FOUND = "SELECT current_setting('ingest.found')"


class Refusal(RecordError):
    """The database refuses one row. It says why as the driver's errors do."""

    def __init__(self, message: str, sqlstate: str, constraint_name: str, schema_name: str, attempts: int) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.constraint_name = constraint_name or None
        self.schema_name = schema_name or None
        self.attempts = attempts


class Search:
    """The search in one staging table: a ``DO`` block, which needs no right beyond that of temporary tables."""

    def __init__(self, *, staged: str, insert: str) -> None:
        """``staged`` is the table's name; ``insert`` inserts the rows whose ordinals are at least :data:`LOW` and less
        than :data:`HIGH`, and returns the array of the ordinals of those that changed nothing, or nothing at all."""
        into = "\n            INTO ingest_idle" if "RETURNING" in insert else ""

        def block(*, smallest: int, attempt: int) -> str:
            return _BLOCK.format(
                staged=staged,
                insert=insert + into,
                low=LOW,
                high=HIGH,
                at=AT,
                smallest=smallest,
                attempt=attempt,
                sqlstates=",".join(RECORD_SQLSTATES),
                classes=",".join(RECORD_CLASSES),
            )

        self._parts = block(smallest=SMALLEST, attempt=2)  # the whole was tried before
        self._each = block(smallest=1, attempt=1)

    async def run(self, connection: AsyncConnection, *, suspects: bool = False) -> dict[int, Refusal | None]:
        """Inserts what the database takes; returns ordinal → why it was refused, or None where it changed nothing.

        ``suspects``: most of the rows will be refused, so each is tried by itself from the beginning.
        """
        await connection.exec_driver_sql(_CREATE)
        await connection.exec_driver_sql(self._each if suspects else self._parts)
        found = json.loads((await connection.exec_driver_sql(_FOUND)).scalar_one())
        result: dict[int, Refusal | None] = dict.fromkeys(found["idle"])
        result |= {ordinal: Refusal(*described) for ordinal, *described in found["refused"]}
        return result


# A stack of parts, the next on top. Where many rows are refused, parts are small, or most would be inserted in vain.
# Names begin so that no column of somebody's table is meant by them.
_BLOCK = """
DO $ingest$
#variable_conflict use_column
DECLARE
    ingest_lows integer[] := ARRAY[0];
    ingest_highs integer[] := ARRAY[(SELECT count(*) FROM {staged})];
    ingest_attempts integer[] := ARRAY[{attempt}];
    ingest_step integer := {smallest};
    ingest_top integer;
    {low} integer;
    {high} integer;
    ingest_attempt integer;
    ingest_from integer;
    ingest_to integer;
    ingest_before bigint;
    ingest_bad integer;
    ingest_idle integer[];
    ingest_all_idle integer[] := '{{}}';
    ingest_refused jsonb[] := '{{}}';
    ingest_message text;
    ingest_state text;
    ingest_constraint text;
    ingest_schema text;
BEGIN
    WHILE cardinality(ingest_lows) > 0 LOOP
        ingest_top := cardinality(ingest_lows);
        {low} := ingest_lows[ingest_top];
        {high} := ingest_highs[ingest_top];
        ingest_attempt := ingest_attempts[ingest_top];
        IF {high} - {low} > ingest_step THEN
            {high} := {low} + ingest_step;
            ingest_lows[ingest_top] := {high};
        ELSE
            ingest_lows := ingest_lows[:ingest_top - 1];
            ingest_highs := ingest_highs[:ingest_top - 1];
            ingest_attempts := ingest_attempts[:ingest_top - 1];
        END IF;
        ingest_idle := NULL;
        ingest_before := nextval('{at}');
        BEGIN
            {insert};
            ingest_all_idle := ingest_all_idle || ingest_idle;
            ingest_step := least(2 * ingest_step, 1000000);
        EXCEPTION WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS
                ingest_message = MESSAGE_TEXT,
                ingest_state = RETURNED_SQLSTATE,
                ingest_constraint = CONSTRAINT_NAME,
                ingest_schema = SCHEMA_NAME;
            IF ingest_state <> ALL ('{{{sqlstates}}}') AND left(ingest_state, 2) <> ALL ('{{{classes}}}') THEN
                RAISE;
            END IF;
            IF {high} - {low} = 1 THEN
                ingest_refused := ingest_refused || jsonb_build_array(
                    {low}, ingest_message, ingest_state, ingest_constraint, ingest_schema, ingest_attempt
                );
                CONTINUE;
            END IF;
            ingest_step := greatest(ingest_step / 4, {smallest});
            ingest_bad := {low} + nextval('{at}') - ingest_before - 2;
            IF ingest_bad < {low} OR ingest_bad >= {high} - 1 THEN
                ingest_bad := ({low} + {high}) / 2;
            END IF;
            -- What comes after that row, the row, what comes before: of each what there is.
            FOR ingest_top IN 1 .. 3 LOOP
                ingest_from := (ARRAY[ingest_bad + 1, ingest_bad, {low}])[ingest_top];
                ingest_to := (ARRAY[{high}, ingest_bad + 1, ingest_bad])[ingest_top];
                IF ingest_from < ingest_to THEN
                    ingest_lows := ingest_lows || ingest_from;
                    ingest_highs := ingest_highs || ingest_to;
                    ingest_attempts := ingest_attempts || (ingest_attempt + 1);
                END IF;
            END LOOP;
        END;
    END LOOP;
    PERFORM set_config(
        'ingest.found', jsonb_build_object('idle', ingest_all_idle, 'refused', ingest_refused)::text, true
    );
END
$ingest$
"""
