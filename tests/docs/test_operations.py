"""``docs/operations.md`` names everything that an operator meets."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ingest import delivery, errors
from ingest.metrics import LANE_STATES, Metrics
from tests.support.database import ROOT

PAGE = (ROOT / "docs" / "operations.md").read_text()


def warnings() -> Iterator[str]:
    """The fixed texts of all warnings and errors that the service logs."""
    yield from delivery._LOGGED.values()
    for path in sorted((ROOT / "ingest").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name("log"), attr="warning" | "error" | "exception"),
                    args=[ast.Constant(value=str(text)), *_],
                ):
                    yield text


def test_every_warning_of_the_log_is_explained() -> None:
    found = list(warnings())
    assert len(found) > 8
    assert [text for text in found if f"`{text}`" not in PAGE] == []


def test_every_metric_is_explained() -> None:
    metrics = Metrics()
    names = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in metrics.registry.collect()
    }
    assert {name for name in names if f"| `{name}` |" not in PAGE} == set()
    assert all(f"`{state}`" in PAGE for state in LANE_STATES)


def test_every_exit_code_is_explained() -> None:
    kinds = (errors.FatalError, errors.SettingsError, errors.SchemaError)
    codes = {errors.EXIT_STOPPED, *(kind.exit_code for kind in kinds)}
    for page in (PAGE, (ROOT / "README.md").read_text()):
        assert {code for code in codes if f"\n| {code} | " not in page} == set()
