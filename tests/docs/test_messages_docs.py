"""``docs/messages`` has a whole message of each topic, and says of each field what the contract wants."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from ingest.topics import Topic
from tests.support.database import ROOT
from tests.support.topics import LOOM
from tests.unit.examples import accepted

MESSAGES = ROOT / "docs" / "messages"
PAGE = MESSAGES / "README.md"
every_topic = pytest.mark.parametrize("topic", LOOM.values(), ids=LOOM)


def test_page_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "messages-docs"], capture_output=True, text=True, check=True
    ).stdout
    assert PAGE.read_text() == printed, "scripts/messages-docs > docs/messages/README.md makes it anew"


def test_there_is_an_example_of_each_topic_and_no_other() -> None:
    assert {path.name for path in MESSAGES.iterdir()} == {"README.md", *(f"{name}.json" for name in LOOM)}


@every_topic
def test_example_is_taken_whole(topic: Topic) -> None:
    value = (MESSAGES / f"{topic.name}.json").read_bytes()
    record = accepted(topic, value)
    assert record.unknown_fields == ()
    assert [name for name, content in record.rows[0].items() if content is None] == []
    assert set(json.loads(value)) == set(topic.contract.model_fields) - {"data"}


@every_topic
def test_page_says_of_every_field_whether_it_is_required(topic: Topic) -> None:
    (section,) = [part for part in PAGE.read_text().split("\n## ") if part.startswith(f"{topic.name}\n")]
    rows = {
        cells[1].strip(" `"): cells[3].strip() for line in section.splitlines() if len(cells := line.split("|")) > 4
    }
    fields = topic.contract.model_fields
    assert {name: "**yes**" if field.is_required() else "no" for name, field in fields.items() if name != "data"} == {
        name: required for name, required in rows.items() if name in fields
    }


@every_topic
def test_page_says_of_exactly_those_fields_that_are_kept_nowhere_that_they_are_not_stored(topic: Topic) -> None:
    (section,) = [part for part in PAGE.read_text().split("\n## ") if part.startswith(f"{topic.name}\n")]
    said = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `") and "not stored" in line}
    kept = {field for write in topic.writes for field in topic.columns_of(write).values()}
    assert said == set(topic.contract.model_fields) - kept - {"data"}


def test_page_has_no_markup_of_docstrings() -> None:
    assert re.findall(r":\w+:`|``[^`]", PAGE.read_text()) == []


def test_nested_form_of_a_position_is_told() -> None:
    (section,) = [part for part in PAGE.read_text().split("\n## ") if part.startswith("device.sensor.gps.raw\n")]
    assert "nest the values under `data`" in section
