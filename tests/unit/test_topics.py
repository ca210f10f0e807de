"""A topic that does not fit its tables is refused when it is declared, by a message that names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB

from ingest.errors import SettingsError
from ingest.topics import (
    Append,
    Contract,
    FirstWins,
    FollowUp,
    LastWins,
    Topic,
    Version,
    Write,
    contract,
    load_topics,
)


class Door(Contract):
    door: contract.Text
    opened: bool


class Noted(Contract):
    """A door whose note is a text, or none."""

    door: contract.Text
    note: contract.Text | None = None


class Described(Contract):
    """A door whose note is JSON, or none."""

    door: contract.Text
    note: contract.JsonObject | None = None


def lift(old: Any) -> Door:
    return Door(timestamp=old.timestamp, door="a", opened=True)


V1 = Version("v1", Door)


def table(*more: Any, message_timestamp: bool = False) -> Table:
    if message_timestamp:
        more = (*more, Column("message_timestamp", DateTime(timezone=True)))
    return Table(
        "doors",
        MetaData(),
        Column("door", Text, primary_key=True),
        Column("timestamp", DateTime(timezone=True)),
        Column("opened", Integer),
        Column("schema_version", Text),
        *more,
    )


def noted(kind: Any) -> Table:
    return Table(
        "doors",
        MetaData(),
        Column("door", Text, nullable=False),
        Column("timestamp", DateTime(timezone=True)),
        Column("note", kind, nullable=False),
        Column("schema_version", Text),
        UniqueConstraint("door", "note"),
    )


def declare(*writes: Write, versions: tuple[Version, ...] = (V1,), **more: Any) -> Topic:
    return Topic("acme.doors", versions, writes or (Write(table(), Append()),), **more)


REFUSED: list[tuple[str, Any, str]] = [
    ("no version", lambda: declare(versions=()), "at least one version"),
    ("no write", lambda: Topic("acme.doors", (V1,), ()), "one write"),
    ("lift of the first version", lambda: declare(versions=(Version("v1", Door, lift),)), "`lift`"),
    ("no lift of the second", lambda: declare(versions=(V1, Version("v2", Door))), "`lift`"),
    (
        "two versions of one name",
        lambda: declare(versions=(V1, Version("v1", Door, lift))),
        r"\bv1\b",
    ),
    (
        "field that no column stores",
        lambda: declare(Write(Table("t", MetaData(), Column("door", Text), Column("timestamp", Text)), Append())),
        "no column stores opened, schema_version",
    ),
    (
        "column that the table does not have",
        lambda: declare(Write(table(), Append(), columns={"gate": "door"})),
        "table doors: there is no column gate",
    ),
    (
        "field that the contract does not have",
        lambda: declare(Write(table(), Append(), columns={"door": "gate"})),
        "table doors: column door wants field gate",
    ),
    (
        "column that nothing fills",
        lambda: declare(Write(table(Column("floor", Integer, nullable=False)), Append())),
        "table doors: nothing fills column floor",
    ),
    (
        "key that the table does not have",
        lambda: declare(Write(table(), FirstWins(("door", "timestamp")))),
        r"table doors: \(door, timestamp\) is no primary key",
    ),
    (
        "key column that may be NULL",
        lambda: declare(Write(table(UniqueConstraint("door", "timestamp")), FirstWins(("door", "timestamp")))),
        "table doors: key column timestamp must be NOT NULL",
    ),
    (
        "last wins without the messages' timestamp",
        lambda: declare(Write(table(), LastWins(("door",), ("opened",)))),
        "table doors: there is no column message_timestamp",
    ),
    (
        "update of a column that nothing fills",
        lambda: declare(Write(table(message_timestamp=True), LastWins(("door",), ("floor",)))),
        "`update` names a column",
    ),
    (
        "key that no message fills",
        lambda: declare(
            Write(
                table(Column("id", BigInteger, Identity(), nullable=False), UniqueConstraint("id")), FirstWins(("id",))
            )
        ),
        r"\bid\b",
    ),
    (
        "key that the contract lets be null",
        lambda: declare(Write(noted(Text), FirstWins(("door", "note"))), versions=(Version("v1", Noted),)),
        "the contract lets key column note be null",
    ),
    (
        "text in a column of JSON: it might be JSON by chance, and of another meaning",
        lambda: declare(Write(noted(JSONB), Append()), versions=(Version("v1", Noted),)),
        "column note is JSON, so give field note one of the contracts' Json types",
    ),
    (
        "follow-up by a column that the first write does not have",
        lambda: declare(follow_ups=(FollowUp("gate", update(table())),)),
        "gate",
    ),
]


@pytest.mark.parametrize(("make", "named"), [each[1:] for each in REFUSED], ids=[each[0] for each in REFUSED])
def test_misdeclared_topic_is_refused_and_named(make: Any, named: str) -> None:
    with pytest.raises(TypeError, match=named) as caught:
        make()
    assert "topic acme.doors" in str(caught.value)


def test_well_declared_topics_are_taken() -> None:
    more = Column("floor", Integer, nullable=False, server_default="0"), Column("note", Text)
    assert declare(Write(table(*more), FirstWins(("door",)))).contract is Door
    moment = Column("moment", DateTime(timezone=True), nullable=False)
    key = table(moment, UniqueConstraint("moment", "door"))
    assert declare(Write(key, FirstWins(("door", "moment")), columns={"moment": "timestamp"}))
    assert declare(Write(table(message_timestamp=True), LastWins(("door",), ("opened", "timestamp"))))
    for kind in (JSON, JSONB):
        assert declare(Write(noted(kind), Append()), versions=(Version("v1", Described),))
    assert declare(versions=(Version("v0", Contract), Version("v1", Door, lift))).contract is Door


def test_columns_of_a_write_are_those_that_a_message_fills() -> None:
    write = Write(
        table(Column("moment", Text), message_timestamp=True), LastWins(("door",), ()), {"moment": "timestamp"}
    )
    assert declare(write).columns_of(write) == {
        "door": "door",
        "timestamp": "timestamp",
        "opened": "opened",
        "schema_version": "schema_version",
        "message_timestamp": "timestamp",
        "moment": "timestamp",
    }


def test_field_may_be_left_unstored_on_purpose() -> None:
    columns = [Column("door", Text), Column("timestamp", Text)]
    topic = Topic(
        "acme.doors",
        (V1,),
        (Write(Table("t", MetaData(), *columns), Append()),),
        not_stored=frozenset({"opened", "schema_version"}),
    )
    assert topic.tables[0].name == "t"


MODULE = """
from sqlalchemy import Column, MetaData, Table, Text
from ingest.topics import Append, Contract, Topic, Version, Write
TOPIC = Topic({name!r}, (Version("v1", Contract),),
    (Write(Table("t", MetaData(), Column("timestamp", Text), Column("schema_version", Text)), Append()),))
"""


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_topics_are_found_in_a_module_and_in_the_modules_of_a_package(modules: Path) -> None:
    (modules / "acme_one.py").write_text(MODULE.format(name="acme.one"))
    (modules / "acme_pack").mkdir()
    (modules / "acme_pack/__init__.py").write_text("")
    (modules / "acme_pack/two.py").write_text(MODULE.format(name="acme.two"))
    (modules / "acme_pack/three.py").write_text(
        MODULE.format(name="acme.three") + "\nfrom acme_pack.two import TOPIC as T"
    )
    assert sorted(load_topics(["acme_one", "acme_pack"])) == ["acme.one", "acme.three", "acme.two"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("acme_missing", None),
        ("acme.missing.deeply", None),
        (".acme", None),
        ("acme_import", "import acme_is_not_there"),
        ("acme_misdeclared", "from ingest.topics import Topic\nTopic('acme.bad', (), ())"),
        ("acme_syntax", "def"),
        ("acme_name", "nonsense"),
        ("acme_value", "int('x')"),
        ("acme_empty", "nothing = 1"),
    ],
)
def test_module_that_can_not_be_loaded_is_one_line_that_names_it(path: str, source: str | None, modules: Path) -> None:
    if source is not None:
        (modules / f"{path}.py").write_text(source)
    with pytest.raises(SettingsError, match="LOOM_TOPICS") as caught:
        load_topics([path])
    assert path in str(caught.value) and "\n" not in str(caught.value)


def test_two_different_topics_of_one_name_are_refused(modules: Path) -> None:
    for module in ("acme_left", "acme_right"):
        (modules / f"{module}.py").write_text(MODULE.format(name="acme.same"))
    with pytest.raises(SettingsError, match=r"two different topics are named acme\.same"):
        load_topics(["acme_left", "acme_right"])
    assert list(load_topics(["acme_left", "acme_left"])) == ["acme.same"]
