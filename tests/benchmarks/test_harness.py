"""The harness tells what it measured: figures, plots and pages are made of results, and nothing is left out."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from ingest.local import jars
from ingest.local.ports import LOOPBACK
from ingest.local.sample_topics import EMOTIONS
from tests.benchmarks import __main__ as command
from tests.benchmarks import sizing
from tests.benchmarks.figures import Spread, quantile, written
from tests.benchmarks.measure import MEASURES, Size, in_order
from tests.benchmarks.page import Machine, page
from tests.benchmarks.peers import debezium, quix
from tests.benchmarks.plots import drawn
from tests.benchmarks.result import Grid, Line, Plot, Result, Verdict
from tests.benchmarks.server import statement
from tests.benchmarks.stacks import REST, summed
from tests.benchmarks.workloads import WORKLOADS, Templates, emotions
from tests.helm.chart import render
from tests.support.database import ROOT
from tests.support.messages import NOW

HERE = Machine(2, "a processor", 8.0, "Linux", "Kafka", "PostgreSQL", "aiokafka 0.14")


def result(key: str, **changes: object) -> Result:
    found = Result(key, MEASURES[key].title, "2026-03-01T12:00Z", method="So.")
    found.verdicts = [Verdict("a | b", "≥ 2", "3.00", True), Verdict("c", "≤ 1", "2.00", False)]
    found.grids = [Grid("A table", ("", "rows/s"), [["ours", "10 (9–11)"]])]
    found.plots = [Plot("A plot", "x", "y", [Line("ours", [(1.0, 2.0)]), Line("COPY", [(2.0, float("nan"))])])]
    found.numbers = {"emotion_scores_rate": 25_000.0, "client_us": 20.0, "server_us": 15.0, "wal_bytes": 900.0}
    for name, value in changes.items():
        setattr(found, name, value)
    return found


EVERY = {key: result(key) for key in MEASURES}


def test_all_ten_measures_and_the_profile_are_there() -> None:
    assert [each.key for each in in_order()] == [*(f"P{number}" for number in range(1, 11)), "profile"]


def test_the_page_has_every_measure_with_its_misses() -> None:
    text, pictures = page(in_order(), EVERY, HERE, Size.full(3), 20)
    for key, each in MEASURES.items():
        assert each.title in text
        assert f"({'performance'}/{key.lower()}.svg)" in text
        assert f"{key.lower()}.svg" in pictures
    assert text.count("**missed**") == len(MEASURES)
    assert f"{len(MEASURES)} of {2 * len(MEASURES)} goals are met" in text
    assert "a \\| b" in text
    assert "10 (9–11)" in text


def test_a_measure_that_did_not_run_is_said_on_the_page() -> None:
    found = {key: each for key, each in EVERY.items() if key != "P7"}
    text, _ = page(in_order(), found, HERE, Size.full(3), 20)
    assert "Not measured in this run." in text.partition("P7: ")[2].partition("## ")[0]


def test_a_run_beside_other_work_is_said_on_the_page() -> None:
    loud = EVERY | {"P3": result("P3", other_share=0.8)}
    assert "Somebody else used the machine during P3" in page([], loud, HERE, Size.full(3), 20)[0]
    assert "Somebody else" not in page([], EVERY, HERE, Size.full(3), 20)[0]


def test_figures_of_before_stand_beside_those_of_now() -> None:
    before = {"P1": result("P1", numbers={"emotion_scores_rate": 4_000.0}, began="2026-02-01T12:00Z")}
    text, _ = page(in_order(), EVERY, HERE, Size.full(3), 20, before)
    assert "| P1: emotion scores rate | 4,000 | 25,000 |" in text


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    command.keep(EVERY | {"P1": result("P1", plots=[])}, tmp_path / "results.json")
    found = command.kept(tmp_path / "results.json")
    assert set(found) == set(EVERY)
    assert (found["P1"].verdicts, found["P1"].numbers) == (EVERY["P1"].verdicts, EVERY["P1"].numbers)
    assert [line.name for line in found["P2"].plots[0].lines] == ["ours", "COPY"]


def test_a_run_of_another_size_is_not_gone_on_with(tmp_path: Path) -> None:
    assert command.goes_on(tmp_path / "run.json", {"seed": 20, "rows": 1000})
    assert command.goes_on(tmp_path / "run.json", {"seed": 20, "rows": 1000})
    assert not command.goes_on(tmp_path / "run.json", {"seed": 20, "rows": 2000})


@pytest.mark.parametrize(
    "plot",
    [
        Plot("bars & <more>", "", "rows/s", [Line("loom-ingest", [(0, 25_000.0)]), Line("none", [(1, float("nan"))])]),
        Plot("lines", "rows", "rows/s", [Line("a", [(1e4, 20_000.0), (1e7, 19_000.0)])], logarithmic_x=True),
        Plot("flat", "s", "messages", [Line("lag", [(float(second), 0.0) for second in range(100)])]),
        Plot("nothing", "s", "messages", [Line("lag", [])]),
    ],
    ids=lambda plot: plot.title,
)
def test_every_plot_is_a_picture(plot: Plot) -> None:
    picture = ElementTree.fromstring(drawn(plot))  # noqa: S314 - made here
    assert picture.tag.endswith("svg")
    assert "nan" not in drawn(plot)


def test_a_spread_has_least_median_and_greatest() -> None:
    assert str(Spread.of([3.0, 1.0, 2.0])) == "2.00 (1.00–3.00)"
    assert str(Spread.of([25_000.0])) == "25,000"
    assert written(float("inf")) == "∞"
    assert [written(each) for each in (0.0, 0.0123, 12.34, 123.4, float("nan"))] == ["0", "0.0123", "12.3", "123", "–"]
    assert [quantile(range(1, 101), share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    with pytest.raises(ValueError, match="no repetition"):
        Spread.of([])


def test_a_load_is_the_same_for_the_same_seed() -> None:
    for workload in WORKLOADS:
        first = list(workload.make(50, 7))
        assert first == list(workload.make(50, 7))
        assert first != list(workload.make(50, 8))
        assert {each.topic for each in first} <= workload.topics
    sizes = [len(each.value) for each in emotions(200, 7)]
    assert 400 < sum(sizes) / len(sizes) < 500


def test_refused_rows_and_redeliveries_are_as_many_as_asked() -> None:
    refused = [json.loads(each.value)["segment_id"] for each in emotions(1000, 7, refused=0.01)]
    places = [number for number, name in enumerate(refused) if name.startswith("bad-")]
    assert places == list(range(50, 1000, 100))
    again = list(emotions(10_000, 7, again=0.01))
    assert len({each.value for each in again}) == 10_000
    assert 10_050 < len(again) < 10_150


def test_quick_messages_keep_the_contract_and_differ() -> None:
    templates = Templates(7)
    made = [templates.make(number, NOW) for number in range(3000)]
    assert len({each.value for each in made}) == 3000
    assert {each.topic for each in made} == {EMOTIONS}
    assert json.loads(made[0].value)["timestamp"] == NOW.isoformat()


def test_a_sample_belongs_to_the_stage_of_its_innermost_frame() -> None:
    found = summed(
        [
            "main (ingest/app.py);__call__ (ingest/decode.py);model_validate_json (pydantic/main.py) 6",
            "main (ingest/app.py);write (ingest/writer.py);execute (sqlalchemy/ext/asyncio/engine.py) 3",
            "run (asyncio/runners.py) 1",
            "run (asyncio/runners.py);EpollSelector.select (selectors.py) 50",
            "no number",
        ]
    )
    assert found.samples == 10
    assert found.stages == {"decode: contract, rows": 0.6, "write: statements, rows to the server": 0.3, REST: 0.1}
    assert next(iter(found.functions)) == "model_validate_json (pydantic/main.py)"


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ('COPY "public"."t" (a, b) FROM STDIN', 'COPY t'),
        ("INSERT INTO t (a) VALUES ($1), ($2) ON CONFLICT DO NOTHING RETURNING a", "INSERT t"),
        ("INSERT INTO t (a) SELECT a FROM staging ON CONFLICT DO NOTHING", "INSERT … SELECT t"),
        ("SELECT next_offset\nFROM ingest_offsets WHERE x = $1 FOR UPDATE", "SELECT … FOR UPDATE ingest_offsets"),
        ("SAVEPOINT sa_savepoint_1", "SAVEPOINT"),
        ("COMMIT;", "COMMIT"),
    ],
)  # fmt: skip
def test_statements_are_named_without_their_values(query: str, said: str) -> None:
    assert statement(query) == said


def test_the_sizing_table_is_made_of_the_measured_figures() -> None:
    text = sizing.filled(f"# Sizing\n\n{sizing.WAITING}\n\nRules.\n", EVERY)
    assert "No quiet run" not in text
    assert "| 10,000 | 2 | 6 | 15 | 84 | 0.200 | 0.150 | 9.00 |" in text
    assert "| 100,000 | 8 | 16 | 15 | 276 |" in text
    assert text.endswith("\n\nRules.\n")
    assert sizing.filled(text, EVERY) == text


def test_the_sizing_page_has_a_place_for_the_figures() -> None:
    page_text = (ROOT / "docs" / "sizing.md").read_text()
    assert page_text.count(sizing.BEGIN) == page_text.count(sizing.END) == 1


def test_the_sizing_page_counts_connections_as_an_upgrade_takes_them() -> None:
    page_text = (ROOT / "docs" / "sizing.md").read_text()
    rows = re.findall(r"^\| [\d,]+ \| (\d+) \| \d+ \| (\d+) \| (\d+) \|", page_text, re.MULTILINE)
    assert len(rows) == len(sizing.RATES)
    assert all(sizing.connections(int(pods), int(pool)) == int(limit) for pods, pool, limit in rows)
    assert (
        render().deployment["spec"]["strategy"]["rollingUpdate"]["maxSurge"] == f"{100 * (sizing.IN_AN_UPGRADE - 1)}%"
    )


def test_the_peers_are_pinned_and_no_address_is_kept() -> None:
    pinned = jars.read_lock(debezium.JARS.lock)
    assert f"debezium-connector-jdbc-{debezium.VERSION}.jar" in pinned
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pinned.values())
    text = quix.LOCK.read_text()
    assert "quixstreams==" in text
    assert "://" not in text + debezium.JARS.lock.read_text()


def test_debezium_gets_every_column_of_the_message() -> None:
    sent = json.loads(next(emotions(1, 7)).value)
    assert {each["field"] for each in debezium.schema()["fields"]} == set(sent)
    settings = debezium.sink_settings("t", f"postgresql://me:secret@{LOOPBACK}:1/db")
    assert settings["connection.url"].startswith(f"jdbc:postgresql://{LOOPBACK}:1/db?")
    assert "secret" not in settings["connection.url"]


@pytest.mark.parametrize("arguments", [["P11"], ["--rows", "10"], ["--repetitions", "0"]])
def test_wrong_arguments_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.options_of(arguments)
    assert ended.value.code == 2
    assert "make bench: error: " in capsys.readouterr().err
