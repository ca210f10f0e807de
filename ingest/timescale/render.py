"""How the operations stand in a revision: ready to be committed, a keyword a line, SQL as a readable block."""

from __future__ import annotations

import textwrap
from dataclasses import MISSING, fields
from datetime import timedelta
from typing import Any

from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext

from ingest.timescale.operations import CannotMakeAgain, Nothing, TimescaleOperation

WIDTH = 116
"""Columns of a call on one line; a revision's functions indent it by four."""
_UNITS = ("days", "hours", "minutes", "seconds", "microseconds")


@renderers.dispatch_for(TimescaleOperation)
def _render(context: AutogenContext, operation: TimescaleOperation) -> str:
    arguments = []
    for each in sorted(fields(operation), key=lambda each: bool(each.kw_only)):  # every operation inherits a keyword
        value = getattr(operation, each.name)
        if each.metadata.get("internal") or (each.default is not MISSING and value == each.default):
            continue
        shown = _sql(value) if each.metadata.get("sql") else _literal(value, context)
        arguments.append(f"{each.name}={shown}" if each.kw_only else shown)
    prefix = f"{context.opts['alembic_module_prefix']}{operation.operation}"
    line = f"{prefix}({', '.join(arguments)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    return f"{prefix}(\n" + "".join(textwrap.indent(f"{each},\n", "    ") for each in arguments) + ")"


@renderers.dispatch_for(Nothing)
def _render_nothing(context: AutogenContext, operation: Nothing) -> list[str]:
    return []


@renderers.dispatch_for(CannotMakeAgain)
def _render_impossible(context: AutogenContext, operation: CannotMakeAgain) -> str:
    reason = (
        f"write how {operation.name} is made again: its bucket is not one that op.create_continuous_aggregate makes"
    )
    return f"raise NotImplementedError(\n    {reason!r}\n)"


def _sql(query: str) -> str:
    if '"""' in query or "\\" in query:
        return repr(query)
    return f'"""\n{query}\n"""'


def _literal(value: Any, context: AutogenContext) -> str:
    if isinstance(value, timedelta):
        context.imports.add("from datetime import timedelta")
        minutes, seconds = divmod(value.seconds, 60)
        parts = zip(_UNITS, (value.days, minutes // 60, minutes % 60, seconds, value.microseconds), strict=True)
        return f"timedelta({', '.join(f'{unit}={count}' for unit, count in parts if count)})"
    if isinstance(value, tuple):
        inside = ", ".join(_literal(each, context) for each in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(value, str):
        return '"' + value + '"' if '"' not in value and "\\" not in value and value.isprintable() else repr(value)
    return repr(value)
