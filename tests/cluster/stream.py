"""The stream that is consumed while the tests disturb, and its account: message by message."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ingest.local.waiting import wait_for
from tests.cluster.cluster import pods, sql
from tests.cluster.names import NAMESPACE

PER_SECOND = 60
LONGEST_STOP_S = 15
"""For how long nothing at all may be consumed while pods come and go. In the runs so far each look saw it go on."""
LONGEST_PARTITION_STOP_S = 90
"""For how long a single partition may stand still: the group's session, 60 s, when its member was killed, and the rest
for the others to take it over."""
TOPICS: dict[str, tuple[str, dict[str, Any]]] = {
    "device.sensor.gps.raw": ("device_sensor_gps_raw", {"latitude": 52.1, "longitude": 5.2}),
    "analysis.audio.emotion_scores": (
        "analysis_audio_emotion_scores_raw",
        {"segment_id": "s", "predicted_emotion": "joy", "confidence_score": 0.8},
    ),
}
"""Topic → its table, and what a message of it needs."""


LEDGER = "SELECT topic, partition, written + duplicate + dead_lettered FROM ingest_offsets ORDER BY 1, 2"


@dataclass
class Account:
    """What became of a topic's messages."""

    produced: int
    rows: int
    letters: int
    lost: int
    """Messages that are neither row nor dead letter."""
    twice: int
    """Messages that are more than one row or letter, and writes that the ledger counts beyond the messages."""

    @classmethod
    def of(cls, topic: str, produced: int) -> Account:
        table = TOPICS[topic][0]
        answer = sql(f"""
            WITH found AS (
                SELECT message_id::bigint AS number, 0 AS letter FROM {table}
                UNION ALL
                SELECT (convert_from(value, 'UTF8')::json ->> 'message_id')::bigint, 1
                FROM ingest_dead_letters WHERE topic = '{topic}'
            ), ledger AS (
                SELECT coalesce(sum(written + duplicate + dead_lettered), 0) AS ended, coalesce(sum(duplicate), 0) AS again
                FROM ingest_offsets WHERE topic = '{topic}'
            )
            SELECT
                (SELECT count(*) FROM found WHERE letter = 0),
                (SELECT count(*) FROM found WHERE letter = 1),
                (SELECT count(*) FROM (SELECT generate_series(0, {produced - 1}::bigint) EXCEPT SELECT number FROM found) AS absent),
                (SELECT count(*) - count(DISTINCT number) FROM found) + abs(ended - {produced}) + again
            FROM ledger""")  # noqa: E501, S608 - names of our own
        rows, letters, lost, twice = map(int, answer.split("|"))
        return cls(produced, rows, letters, lost, twice)


def written() -> int:
    """How many messages have ended, by the ledger; -1 while the database does not answer."""
    try:
        return int(sql("SELECT coalesce(sum(written + duplicate + dead_lettered), 0) FROM ingest_offsets"))
    except AssertionError:
        return -1


@dataclass
class Seen:
    """What was seen while the stream ran."""

    longest_stop_s: float = 0
    """For how long looks, about one a second, found the ledger where it was: 0 when each found that it had moved."""
    longest_partition_stop_s: float = 0
    """The same of the partition that stood still for longest. About ten messages a second come to each."""
    fewest_ready: int = 1_000
    failures: list[BaseException] = field(default_factory=list)

    @property
    def stops(self) -> str:
        """For the report."""
        return (
            f"the ledger stood still for {self.longest_stop_s:.1f} s at most, a single partition for "
            f"{self.longest_partition_stop_s:.1f} s"
        )


@dataclass
class Stream:
    """Goes on from where it was stopped last, so numbers are never used again."""

    next: dict[str, int] = field(default_factory=lambda: dict.fromkeys(TOPICS, 0))
    begin: float = field(default_factory=lambda: time.time() - 7_200)
    """Of the messages' own times: two hours before the first one."""

    @contextmanager
    def running(self, watch: bool = True) -> Iterator[Seen]:
        """Produces in the background; at the end waits until all is written and compares."""
        seen, over = Seen(), threading.Event()
        before = sum(self.next.values())
        producers = {topic: self._start(topic) for topic in TOPICS}
        watcher = threading.Thread(target=_watch, args=(seen, over))
        try:
            assert wait_for(lambda: written() > before, deadline_s=120, every_s=0.5), "the stream is not consumed"
            if watch:
                watcher.start()
            yield seen
        finally:
            over.set()
            if watcher.ident:
                watcher.join()
            for topic, producer in producers.items():
                said, error = producer.communicate(timeout=60)
                assert producer.returncode == 0, error
                self.next[topic] = int(said)
        assert not seen.failures, seen.failures
        assert seen.longest_stop_s < LONGEST_STOP_S
        assert seen.longest_partition_stop_s < LONGEST_PARTITION_STOP_S
        total = sum(self.next.values())
        assert wait_for(lambda: written() >= total, deadline_s=180, every_s=1), f"{written()} of {total} messages"
        for topic, produced in self.next.items():
            account = Account.of(topic, produced)
            assert (account.lost, account.twice) == (0, 0), (topic, account)
            assert account.letters == produced // 100, (topic, account)
            assert account.rows + account.letters == produced, (topic, account)

    def _start(self, topic: str) -> subprocess.Popen[str]:
        arguments = (topic, str(self.next[topic]), str(PER_SECOND), str(self.begin), json.dumps(TOPICS[topic][1]))
        return subprocess.Popen(
            [
                *("kubectl", "--namespace", NAMESPACE, "exec", "-i", "producer", "--"),
                *("python", "/producer/produce.py", "stream", *arguments),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def _watch(seen: Seen, over: threading.Event) -> None:
    began = time.monotonic()
    last: dict[str, str] = {}
    moved: dict[str, float] = {}
    try:
        while not over.wait(0.5):
            look = dict(line.rsplit("|", 1) for line in sql(LEDGER).splitlines())
            now = time.monotonic()
            for partition, ended in look.items():
                if last.get(partition) != ended:
                    moved[partition] = now
            last = look
            stops = [now - moved.get(partition, began) for partition in look]
            seen.longest_stop_s = max(seen.longest_stop_s, min(stops))
            seen.longest_partition_stop_s = max(seen.longest_partition_stop_s, *stops)
            seen.fewest_ready = min(seen.fewest_ready, sum(each.ready for each in pods()))
    except BaseException as error:  # noqa: BLE001 - told by the test that has started the thread
        seen.failures.append(error)
