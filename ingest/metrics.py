"""Every metric of the service, in one typed catalogue that is also its documentation.

Promise kept here: counters tell the truth, ``read = written + duplicate + dead_lettered + dropped + buffered`` whenever
no batch is being written (*buffered* is set when one begins and when it ends). The unit is the message. Names have the
form ``ingest_<noun>_<unit|total>``.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

MAX_UNKNOWN_FIELDS = 50
"""Names of unknown fields that get their own label, each topic; the rest are counted as ``other``."""


class Metrics:
    """The catalogue. Each instance has a registry of its own; nothing is global."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry(auto_describe=True)
        topic = ("topic",)
        partition = ("topic", "partition")
        self.read = Counter("ingest_messages_read_total", "Messages taken from the broker", topic, registry=registry)
        self.written = Counter(
            "ingest_messages_written_total",
            "Messages that changed at least one row",
            topic,
            registry=registry,
        )
        self.duplicate = Counter(
            "ingest_messages_duplicate_total",
            "Messages whose rows were there already, or superseded by something newer",
            topic,
            registry=registry,
        )
        self.dead_lettered = Counter(
            "ingest_messages_dead_lettered_total",
            "Messages that became a dead letter",
            ("topic", "stage", "reason"),
            registry=registry,
        )
        self.dropped = Counter(
            "ingest_messages_dropped_total",
            "Messages read and left to whoever owns their partition now; they are read again, never lost",
            ("topic", "reason"),
            registry=registry,
        )
        self.buffered = Gauge(
            "ingest_messages_buffered",
            "Messages read and not yet written or dropped",
            topic,
            registry=registry,
        )
        self.unknown_fields = Counter(
            "ingest_unknown_fields_total",
            "Fields of messages that the contract doesn't know; after 50 names a topic the field is 'other'",
            ("topic", "field"),
            registry=registry,
        )
        self.batch_messages = Histogram(
            "ingest_batch_messages",
            "Messages of one transaction",
            topic,
            registry=registry,
            buckets=(1, 10, 50, 100, 200, 500, 1000, 2000, 5000, 10000),
        )
        self.write_seconds = Histogram(
            "ingest_write_seconds",
            "Duration of one transaction that was committed",
            topic,
            registry=registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        )
        self.write_failures = Counter(
            "ingest_write_failures_total",
            "Transactions that failed and were tried again, by the kind of failure",
            ("topic", "failure"),
            registry=registry,
        )
        self.fenced = Counter(
            "ingest_partitions_fenced_total",
            "Partitions found somewhere else in the ledger than this process expected; they were read anew",
            topic,
            registry=registry,
        )
        self.offset_gaps = Counter(
            "ingest_offset_gaps_total",
            "Gaps that were passed over and recorded: messages that the broker no longer had, or a topic made anew",
            topic,
            registry=registry,
        )
        self.lane_state = Gauge(
            "ingest_lane_state",
            "1 for the state that a topic's lane is in: running, retrying, stopped, fuse_open, paused",
            ("topic", "state"),
            registry=registry,
        )
        self.partitions_assigned = Gauge(
            "ingest_partitions_assigned", "Partitions this process owns", topic, registry=registry
        )
        self.lag_messages = Gauge(
            "ingest_lag_messages",
            "Offsets between the ledger and the log's end",
            partition,
            registry=registry,
        )
        self.lag_seconds = Gauge(
            "ingest_lag_seconds",
            "Age of the first unwritten message by its Kafka timestamp; 0 when caught up",
            partition,
            registry=registry,
        )
        self._unknown_names: dict[str, set[str]] = {}

    def count_unknown_field(self, topic: str, name: str) -> None:
        """Counts one unknown field; the number of names a topic is bounded, whatever producers send."""
        names = self._unknown_names.setdefault(topic, set())
        label = name.encode("ascii", "backslashreplace").decode()[:100]
        if label not in names:
            if len(names) >= MAX_UNKNOWN_FIELDS:
                label = "other"
            else:
                names.add(label)
        self.unknown_fields.labels(topic, label).inc()

    def set_lane_state(self, topic: str, state: str) -> None:
        for known in LANE_STATES:
            self.lane_state.labels(topic, known).set(known == state)


LANE_STATES = ("running", "retrying", "stopped", "fuse_open", "paused")
