"""``docs/settings.md`` is what the code says."""

from __future__ import annotations

import subprocess
import sys

from ingest.settings import SECTIONS, variable_of
from tests.support.database import ROOT

PAGE = ROOT / "docs" / "settings.md"


def test_page_is_current() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "settings-docs"], capture_output=True, text=True, check=True
    ).stdout
    assert PAGE.read_text() == printed, "scripts/settings-docs > docs/settings.md makes it anew"


def test_page_names_every_variable_once() -> None:
    page = PAGE.read_text()
    variables = [variable_of(section, name) for section in SECTIONS for name in section.model_fields]
    assert [page.count(f"| `{variable}` |") for variable in variables] == [1] * len(variables)


def test_every_variable_says_what_it_means() -> None:
    fields = {variable_of(section, name): field for section in SECTIONS for name, field in section.model_fields.items()}
    assert [variable for variable, field in fields.items() if not field.description] == []
