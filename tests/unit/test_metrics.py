"""The catalogue of metrics: named by one rule, and bounded whatever producers send."""

from __future__ import annotations

import re

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ingest.metrics import LANE_STATES, MAX_UNKNOWN_FIELDS, Metrics


def samples(metrics: Metrics, metric: str) -> dict[tuple[str, ...], float]:
    """(topic, the other label) → value, as a scrape would read them."""
    families = text_string_to_metric_families(generate_latest(metrics.registry).decode())
    return {
        tuple(sample.labels[name] for name in sorted(sample.labels, key=lambda name: name != "topic")): sample.value
        for family in families
        for sample in family.samples
        if sample.name == metric
    }


def unknown(metrics: Metrics) -> dict[tuple[str, ...], float]:
    return samples(metrics, "ingest_unknown_fields_total")


def test_every_metric_is_named_and_described_by_the_same_rule() -> None:
    families = list(Metrics().registry.collect())
    assert len(families) >= 14
    for family in families:
        assert re.fullmatch(r"ingest(_[a-z]+){2,}", family.name), family.name
        assert family.documentation
        unit = "total" if family.type == "counter" else family.name.rpartition("_")[2]
        assert unit in {"total", "seconds", "messages", "buffered", "state", "assigned"}, family.name


def test_nothing_is_global() -> None:
    one, other = Metrics(), Metrics()
    one.read.labels("t").inc(5)
    assert samples(one, "ingest_messages_read_total") == {("t",): 5}
    assert samples(other, "ingest_messages_read_total") == {}


def test_unknown_fields_are_counted_by_their_name_and_topic() -> None:
    metrics = Metrics()
    for topic, name in [("a", "x"), ("a", "x"), ("a", "y"), ("b", "x")]:
        metrics.count_unknown_field(topic, name)
    assert unknown(metrics) == {("a", "x"): 2, ("a", "y"): 1, ("b", "x"): 1}


def test_number_of_names_is_bounded_for_each_topic_and_nothing_is_lost() -> None:
    metrics = Metrics()
    for topic in ("a", "b"):
        for number in range(1000):
            metrics.count_unknown_field(topic, f"field {number}")
        metrics.count_unknown_field(topic, "field 0")
        metrics.count_unknown_field(topic, "field 999")
    counted = unknown(metrics)
    for topic in ("a", "b"):
        mine = {name: value for (of, name), value in counted.items() if of == topic}
        assert len(mine) == MAX_UNKNOWN_FIELDS + 1
        assert mine["field 0"] == 2
        assert mine["other"] == 1000 - MAX_UNKNOWN_FIELDS + 1
        assert sum(mine.values()) == 1002


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("\ud800", "\\ud800"),
        ("größe", "gr\\xf6\\xdfe"),
        ("😀", "\\U0001f600"),
        ("a\0b", "a\0b"),
        ('quo"te\nnew\\line', 'quo"te\nnew\\line'),
        ("", ""),
        ("x" * 10_000, "x" * 100),
        ("ä" * 10_000, "\\xe4" * 25),
    ],
    ids=["surrogate", "letters", "emoji", "nul", "quoted", "empty", "long", "long escaped"],
)
def test_whatever_a_field_is_called_the_page_can_be_scraped(name: str, label: str) -> None:
    metrics = Metrics()
    metrics.count_unknown_field("t", name)
    assert unknown(metrics) == {("t", label): 1}


@pytest.mark.parametrize("state", LANE_STATES)
def test_lane_is_in_exactly_one_state(state: str) -> None:
    metrics = Metrics()
    metrics.set_lane_state("t", "running")
    metrics.set_lane_state("t", state)
    assert samples(metrics, "ingest_lane_state") == {("t", each): float(each == state) for each in LANE_STATES}
