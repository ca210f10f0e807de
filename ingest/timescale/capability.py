"""What the database can keep of the declarations, and what happens where it can't.

======== ============================= ============================= =================================
mode     TimescaleDB                   its Apache-licensed build     no extension, or one too old
======== ============================= ============================= =================================
required everything                    an error                      an error
auto     everything                    hypertables and plain views   ordinary tables and plain views
off      ordinary tables, plain views  the same                      the same
======== ============================= ============================= =================================
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from ingest.errors import FatalError
from ingest.timescale import catalog

MINIMUM = (2, 18)
"""Columnstore's names (``enable_columnstore``, ``add_columnstore_policy``) came with 2.18."""
OPTION = "timescale"
"""The mode's name among the options of ``context.configure``."""
_TARGET = "timescale_target"

log = logging.getLogger(__name__)


class Mode(StrEnum):
    """What to do with what the database can't keep; ``LOOM_TIMESCALE``."""

    REQUIRED = "required"
    AUTO = "auto"
    OFF = "off"


class Need(StrEnum):
    """What an operation needs of TimescaleDB."""

    HYPERTABLES = "hypertables"
    COMMUNITY = "columnstore, retention and continuous aggregates"


@dataclass(frozen=True, slots=True)
class Capability:
    """What a database has; ``lack`` says why it is not everything."""

    hypertables: bool
    community: bool
    lack: str = ""

    def has(self, need: Need) -> bool:
        return self.community if need is Need.COMMUNITY else self.hypertables


EVERYTHING = Capability(hypertables=True, community=True)


def capability_of(connection: Connection, *, create: bool = True) -> Capability:
    """Looks, and makes the extension where it is installed on the server and this role may.

    An extension that exists already needs no right at all. Without ``create`` nothing is changed, and an extension that
    could be tried is taken for one that is there.
    """
    version = catalog.extension_version(connection)
    if version is None:
        refused = _not_ready(connection) or (_create_extension(connection) if create else "")
        if refused:
            return Capability(False, False, refused)
        version = catalog.extension_version(connection)
        if version is None:
            return EVERYTHING
    if _numbers(version) < MINIMUM:
        needed = ".".join(map(str, MINIMUM))
        return Capability(
            False, False, f"its TimescaleDB is {version}, and columnstore policies need {needed}; update the extension"
        )
    licence = connection.scalar(text("SELECT current_setting('timescaledb.license', true)"))
    if licence == "apache":
        return Capability(
            True,
            False,
            "its TimescaleDB is the Apache-licensed build (timescaledb.license), without community features",
        )
    return EVERYTHING


@dataclass(slots=True)
class Target:
    """What the operations of one run of Alembic are carried out on."""

    context: MigrationContext
    mode: Mode
    creates: bool = True
    """Whether the extension may be made; not by somebody who only looks."""
    _capability: Capability | None = None
    _said: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, context: MigrationContext) -> Target:
        """One for each run: it remembers what it found and what it said."""
        found = context.opts.get(_TARGET)
        if not isinstance(found, Target) or found.context is not context:
            found = cls(context, Mode(context.opts.get(OPTION) or Mode.REQUIRED))
            context.opts[_TARGET] = found
        return found

    @property
    def offline(self) -> bool:
        """Whether SQL is only printed, for a database that can't be asked."""
        return self.context.as_sql

    @property
    def connection(self) -> Connection:
        """The database. Not there when offline."""
        assert self.context.connection is not None
        return self.context.connection

    @property
    def capability(self) -> Capability:
        """What is found when it is first needed."""
        if self._capability is None:
            if self.mode is Mode.OFF:
                self._capability = Capability(False, False, "LOOM_TIMESCALE is off")
            elif self.offline:
                self.context.impl.static_output("CREATE EXTENSION IF NOT EXISTS timescaledb;\n")
                self._capability = EVERYTHING
            else:
                self._capability = capability_of(self.connection, create=self.creates)
        return self._capability

    def serves(self, need: Need, what: str, instead: str) -> bool:
        """Whether ``what`` (such as "hypertable doors") can be kept.

        ``instead`` is what takes its place where it can't. Raises FatalError in mode ``required``.
        """
        if self.capability.has(need):
            return True
        if self.mode is Mode.REQUIRED:
            raise FatalError(
                f"{what} can't be kept: {self.capability.lack}. Or set LOOM_TIMESCALE=auto to have {instead} instead"
            )
        self.say(f"{need} are not available ({self.capability.lack}): {instead} instead")
        return False

    def is_hypertable(self, what: str, schema: str | None, name: str) -> bool:
        """Whether a hypertable or continuous aggregate is there to be changed.

        A table that was made while LOOM_TIMESCALE was off or auto is not. Raises FatalError in mode ``required``.
        """
        if self.offline or catalog.is_hypertable(self.connection, schema, name):
            return True
        lack = f"{name} is an ordinary table or view; `ingest timescale adopt` makes it what it is declared to be"
        if self.mode is Mode.REQUIRED:
            raise FatalError(f"{what} can't be kept: {lack}")
        self.say(f"{what} is left out: {lack}")
        return False

    def has_live(self, schema: str | None, name: str) -> bool:
        """Whether TimescaleDB has something of that name, whatever the mode: for taking it away."""
        if self.offline:
            return self.mode is not Mode.OFF
        return catalog.extension_version(self.connection) is not None and catalog.is_hypertable(
            self.connection, schema, name
        )

    def say(self, line: str) -> None:
        """Logs it, once."""
        if line not in self._said and self.mode is not Mode.OFF:
            self._said.add(line)
            log.warning(line)


def _not_ready(connection: Connection) -> str:
    """What keeps the extension from being made at all."""
    available = connection.scalar(text("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"))
    if available is None:
        return "the server has no TimescaleDB; install it"
    # A server that has not preloaded the library ends the connection rather than refuse.
    if connection.scalar(text("SELECT 1 FROM pg_settings WHERE name = 'timescaledb.max_background_workers'")) is None:
        return "TimescaleDB is installed but not loaded; add it to shared_preload_libraries and restart the server"
    return ""


def _create_extension(connection: Connection) -> str:
    """Tries to; returns what is in the way."""
    try:
        with connection.begin_nested():
            connection.execute(text("CREATE EXTENSION IF NOT EXISTS timescaledb"))
    except DBAPIError as error:
        reason = str(error.orig).splitlines()[0]
        return f"the extension can't be made ({reason}); let a superuser run CREATE EXTENSION timescaledb"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    """``2.23.0-dev`` → (2, 23, 0)."""
    parts: list[Any] = version.split("-")[0].split(".")
    return tuple(int(part) for part in parts if part.isdigit())
