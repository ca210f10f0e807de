"""``docs/promises.md`` names tests and faults that exist, and every promise."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.acceptance.faults import catalogue
from tests.acceptance.faults.fault import FAULTS
from tests.support.database import ROOT

PAGE = (ROOT / "docs" / "promises.md").read_text()
README = (ROOT / "README.md").read_text()
assert catalogue.__all__  # importing it has registered all faults


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text())
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(function.name for function in functions if function.name.startswith("test_"))


def sections() -> dict[str, str]:
    """Heading → text, of the promises."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return {heading: text for heading, text in zip(parts[1::2], parts[2::2], strict=True) if heading[0].isdigit()}


def faults_of(text: str) -> list[str]:
    (said,) = re.findall(r"^Faults: (.*?)(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    return re.findall(r"`([a-z0-9-]+)`", said)


def test_every_test_that_is_named_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 50
    assert [f"{path}::{name}" for path, name in named if name not in functions_of(path)] == []
    assert len(re.findall(r"::", PAGE)) == len(named) + 2  # the head says twice how a test is named: none is missed


def test_every_promise_has_tests_and_faults_that_exist() -> None:
    found = sections()
    assert [heading[:2] for heading in found] == [f"{number}." for number in range(1, 8)]
    for heading, text in found.items():
        assert f"| {heading}" in README, f"README promises something else than {heading!r}"
        assert re.search(r"\.py::test_", text), f"no test of {heading!r}"
        named = faults_of(text)
        assert named, f"no fault tries {heading!r}"
        assert [name for name in named if name not in FAULTS] == []


def test_faults_that_run_with_the_tests_are_marked() -> None:
    marked = {name for text in sections().values() for name in re.findall(r"`([a-z0-9-]+)`\*", text)}
    assert marked == {fault.name for fault in FAULTS.values() if fault.ci}
