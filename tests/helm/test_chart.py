"""The chart as a package: its version, its values, their schema."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import pytest

from tests.helm.chart import CHART, CI_FILES, DIRECTORY, values_of
from tests.support.database import ROOT

VALUES = (DIRECTORY / "values.yaml").read_text()


def test_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert (CHART.metadata["version"], CHART.metadata["appVersion"]) == (project, project)


def paths(values: Any, where: str = "") -> Iterator[str]:
    if isinstance(values, dict) and values:
        for key, value in values.items():
            yield from paths(value, f"{where}.{key}".lstrip("."))
    else:
        yield where


def test_every_value_has_a_line_that_says_what_it_means() -> None:
    undocumented = []
    inside: int | None = None  # of what Kubernetes documents: its indentation
    lines = VALUES.splitlines()
    for number, line in enumerate(lines):
        indentation = len(line) - len(line.lstrip())
        if inside is not None and line.strip() and indentation <= inside:
            inside = None
        if re.match(r" *(resources|behavior):$", line):
            inside = indentation
        elif inside is None and re.match(r" *\w+: \S", line) and not lines[number - 1].lstrip().startswith("# "):
            undocumented.append(line)
    assert undocumented == []


def schema_paths(schema: Any, where: str = "") -> Iterator[str]:
    reference = schema.get("$ref")
    if reference:
        schema = CHART.schema["definitions"][reference.rsplit("/", 1)[1]]  # type: ignore[index]
    if "properties" in schema and not where.endswith("resources"):
        for key, value in schema["properties"].items():
            yield from schema_paths(value, f"{where}.{key}".lstrip("."))
    else:
        yield where


def test_schema_knows_every_value_and_no_other() -> None:
    free = ("resources", "autoscaling.behavior")
    values = {
        next((f"{path[: path.index(each) + len(each)]}" for each in free if each in path), path)
        for path in paths(CHART.values)
    }
    assert set(schema_paths(CHART.schema)) - {"global"} == values


def objects(schema: Any) -> Iterator[Any]:
    if isinstance(schema, dict):
        if "properties" in schema and isinstance(schema["properties"], dict):
            yield schema
        for value in schema.values():
            yield from objects(value)


def test_schema_lets_no_misspelt_value_pass() -> None:
    found = list(objects(CHART.schema))
    assert len(found) > 20
    assert [each for each in found if each.get("additionalProperties") is not False] == []


def test_a_dependency_may_have_global_values() -> None:
    CHART.validate_schema({"global": {"imageRegistry": "x"}})
    with pytest.raises(helm.HelmValuesError):
        CHART.validate_schema({"globals": {}})


def test_combinations_say_what_they_are_and_stay_out_of_the_package() -> None:
    assert len(CI_FILES) >= 12
    for path in CI_FILES:
        assert path.read_text().startswith("# ")
        assert json.dumps(values_of(path))
    assert "ci/" in (DIRECTORY / ".helmignore").read_text().splitlines()
