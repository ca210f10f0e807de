"""``Topic``: what joins a Kafka topic, its contract and its tables. One declaration, checked when it is made.

>>> TOPIC = Topic(
...     name="acme.door.events",
...     versions=(Version("v1", DoorEvent),),
...     writes=(Write(door_events, FirstWins(key=("door", "timestamp"))),),
... )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, get_args

from sqlalchemy import JSON, Table, UniqueConstraint
from sqlalchemy.sql.dml import Update

from ingest.topics.contract import Contract, JsonText

MESSAGE_TIMESTAMP = "message_timestamp"
"""Column of last-wins tables: the ``timestamp`` of the message that wrote the row last."""


@dataclass(frozen=True, slots=True)
class Append:
    """Every message becomes a row. The table needs no unique key: the ledger lets no message in twice."""


@dataclass(frozen=True, slots=True)
class FirstWins:
    """The first message of a key stays; later ones are duplicates (``ON CONFLICT DO NOTHING``)."""

    key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LastWins:
    """The newest message of a key, by its own ``timestamp``, sets the columns of ``update``; an older one changes
    nothing. The other columns keep what the key's first message brought."""

    key: tuple[str, ...]
    update: tuple[str, ...]


ConflictRule: TypeAlias = Append | FirstWins | LastWins


@dataclass(frozen=True, slots=True)
class Write:
    """One row a message in one table.

    ``columns`` names the contract's field for a column whose name differs (column → field). A column that no field
    fills must have a default of the server's or be nullable.
    """

    table: Table
    rule: ConflictRule
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A statement that runs after the rows of the first write, in the same transaction, once a batch.

    It takes one parameter, ``keys``: the list of ``key_column``'s values in the batch, sorted; and returns those keys
    whose rows it changed. It must be right to run it again.
    """

    key_column: str
    statement: Update


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a topic's contract.

    ``lift`` makes this version of a message out of the version before: it gets the older contract's instance and
    returns this one's. The first version has none.
    """

    name: str
    contract: type[Contract]
    lift: Callable[[Any], Contract] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """A Kafka topic and everything that the service knows of it.

    Raises TypeError when it is made with a contract and tables that don't fit: a field that would be stored nowhere,
    a column that nothing fills, a key that the table doesn't have.
    """

    name: str
    versions: tuple[Version, ...]
    """Oldest first. Older ones are lifted step by step to the newest, which fills the tables."""
    writes: tuple[Write, ...]
    follow_ups: tuple[FollowUp, ...] = ()
    exclusive: str | None = None
    """Topics that name the same word here write one transaction at a time: needed where each reads the other's rows."""
    not_stored: frozenset[str] = frozenset()
    """Fields of the newest contract that no column keeps, on purpose."""

    def __post_init__(self) -> None:
        if not self.versions or not self.writes:
            raise TypeError(f"topic {self.name}: needs at least one version and one write")
        for older, version in zip((None, *self.versions), self.versions, strict=False):
            if (older is None) != (version.lift is None):
                raise TypeError(f"topic {self.name}: the first version, and only that, goes without `lift`")
        names = [version.name for version in self.versions]
        if len(set(names)) != len(names):
            raise TypeError(f"topic {self.name}: two versions have one name: {', '.join(names)}")
        first = self.writes[0]
        for follow_up in self.follow_ups:
            if follow_up.key_column not in self.columns_of(first):
                raise TypeError(
                    f"topic {self.name}: a follow-up wants column {follow_up.key_column}, which no message fills in "
                    f"{first.table.name}"
                )
        stored = set(self.not_stored)
        for write in self.writes:
            self._check(write)
            stored |= set(self.columns_of(write).values())
        lost = set(self.contract.model_fields) - stored
        if lost:
            raise TypeError(
                f"topic {self.name}: no column stores {', '.join(sorted(lost))}; add a column or name it in not_stored"
            )

    @property
    def contract(self) -> type[Contract]:
        """The newest version's contract."""
        return self.versions[-1].contract

    @property
    def tables(self) -> tuple[Table, ...]:
        return tuple(write.table for write in self.writes)

    def columns_of(self, write: Write) -> dict[str, str]:
        """Column → field of the newest contract, for every column that a message fills."""
        fields = self.contract.model_fields
        filled = {name: name for name in (column.name for column in write.table.columns) if name in fields}
        if isinstance(write.rule, LastWins):
            filled[MESSAGE_TIMESTAMP] = "timestamp"
        return filled | dict(write.columns)

    def _may_be_null(self, field_name: str) -> bool:
        return type(None) in get_args(self.contract.model_fields[field_name].annotation)

    def _is_json(self, field_name: str) -> bool:
        annotation = self.contract.model_fields[field_name].annotation
        kinds = {kind for kind in get_args(annotation) or (annotation,) if kind is not type(None)}
        return all(isinstance(kind, type) and issubclass(kind, JsonText) for kind in kinds)

    def _check(self, write: Write) -> None:
        where = f"topic {self.name}, table {write.table.name}"
        filled = self.columns_of(write)
        for name, source in filled.items():
            if name not in write.table.columns:
                raise TypeError(f"{where}: there is no column {name}")
            if source not in self.contract.model_fields:
                raise TypeError(f"{where}: column {name} wants field {source}, which the contract doesn't have")
            if isinstance(write.table.columns[name].type, JSON) and not self._is_json(source):
                raise TypeError(
                    f"{where}: column {name} is JSON, so give field {source} one of the contracts' Json types: "
                    "another text might be JSON by chance, and of another meaning"
                )
        for column in write.table.columns:
            if column.name not in filled and not (column.nullable or column.server_default or column.identity):
                raise TypeError(f"{where}: nothing fills column {column.name}, which is NOT NULL without a default")
        if isinstance(write.rule, Append):
            return
        keys = [set(write.table.primary_key.columns.keys())] + [
            set(unique.columns.keys()) for unique in write.table.constraints if isinstance(unique, UniqueConstraint)
        ]
        if set(write.rule.key) not in keys:
            raise TypeError(f"{where}: ({', '.join(write.rule.key)}) is no primary key or unique constraint of it")
        empty = [name for name in write.rule.key if name not in filled]
        if empty:
            raise TypeError(f"{where}: no message fills key column {', '.join(empty)}")
        nullable = [name for name in write.rule.key if write.table.c[name].nullable]
        if nullable:
            raise TypeError(f"{where}: key column {', '.join(nullable)} must be NOT NULL: a NULL equals nothing")
        absent = [name for name in write.rule.key if self._may_be_null(filled[name])]
        if absent:
            raise TypeError(f"{where}: the contract lets key column {', '.join(absent)} be null")
        if isinstance(write.rule, LastWins) and not set(write.rule.update) <= set(filled):
            raise TypeError(f"{where}: `update` names a column that no message fills")
