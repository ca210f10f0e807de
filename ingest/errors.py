"""The exceptions of loom-ingest: what failed decides what happens next.

::

    IngestError                 one line for a person: what, where, what to do
    ├── TransientError          try again; never a dead letter
    ├── RecordError             this message is at fault; it becomes a dead letter
    ├── LaneError               this topic can't go on as things are; it stops, says so, tries again
    └── FatalError              the process ends, no offset has moved          exit code 4
        ├── SettingsError       a setting is wrong or missing                  exit code 2
        └── SchemaError         the database's schema is missing or too old    exit code 3

Nothing in this module imports anything of the project.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_STOPPED = 0
"""The service was asked to stop and did, with every offset where its rows are."""


class IngestError(Exception):
    """Base of every error this project raises on purpose. ``str(error)`` is one line for a person."""

    exit_code: ClassVar[int] = 4


class TransientError(IngestError):
    """The outside world failed for a while: the same work succeeds later, unchanged."""


class RecordError(IngestError):
    """One message can't be written, now or later. Its neighbours can."""


class LaneError(IngestError):
    """One topic can't go on until somebody changes something; the other topics can."""


class FatalError(IngestError):
    """The process can't do its work at all. Nothing has moved."""


class SettingsError(FatalError):
    """A setting is missing or wrong. Names the variable and what it takes."""

    exit_code: ClassVar[int] = 2


class SchemaError(FatalError):
    """The database lacks a table or column that this version needs. Names it, and the command that adds it."""

    exit_code: ClassVar[int] = 3
