"""What became of every message: lost, twice, and whether the ledger's account closes."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.faults import topics
from tests.acceptance.faults.traffic import Sent, by_partition

Sql = Callable[..., Awaitable[list[dict[str, Any]]]]


@dataclass
class Verdict:
    """The numbers of one fault. ``lost`` counts messages that are in no table and no dead letter, in one of two tables
    only, dead-lettered though they are good, or superseded by something older."""

    messages: int = 0
    lost: int = 0
    twice: int = 0
    letters: int = 0
    examples: list[str] = field(default_factory=list)
    """Of what is wrong: a few, for whoever looks into it."""

    @property
    def clean(self) -> bool:
        return self.lost == self.twice == 0 and not self.examples

    def _wrong(self, what: str) -> None:
        if len(self.examples) < 8:
            self.examples.append(what)

    def judge(self, sent: Sent, rows: Sequence[int], letters: int) -> None:
        """``rows``: how often the message stands in each table that it belongs to."""
        good, bad = (1, 0) if sent.fate == "row" else (0, 1)
        if any(count < good for count in rows) or letters < bad or letters > bad == 0:
            self.lost += 1
            self._wrong(f"lost: {sent.topic} {sent.identity} at {sent.partition}:{sent.offset}: {rows}, {letters}")
        if any(count > good for count in rows) or letters > max(bad, 1):
            self.twice += 1
            self._wrong(f"twice: {sent.topic} {sent.identity} at {sent.partition}:{sent.offset}: {rows}, {letters}")


async def judge(
    sql: Sql,
    sent: list[Sent],
    suffix: str,
    *,
    missed: set[Sent],
    extra: dict[tuple[str, int], int],
    passed: dict[str, int],
) -> Verdict:
    """Compares what was sent with what is there.

    Args:
        sql: asks the world's database.
        missed: messages that a fault took from the broker before they could be read: no row, no dead letter.
        extra: messages that the account holds more than were sent, by topic and partition: somebody moved the row back
            by hand.
        passed: offsets without a message, by topic: of aborted transactions, and transactions' markers. Elsewhere there
            are none; the service counts as passed what it did not get to see, so a message lost in reading is there.
    """
    verdict = Verdict(messages=len(sent))
    found = await sql("SELECT topic, partition, kafka_offset FROM ingest_dead_letters")
    verdict.letters = len(found)
    letters = Counter((row["topic"], row["partition"], row["kafka_offset"]) for row in found)
    expected = [each for each in sent if each not in missed]

    async def identities(table: str, column: str) -> Counter[str]:
        return Counter(row["found"] for row in await sql(f"SELECT {column} AS found FROM {table}"))  # noqa: S608 - ours

    plain = await identities("test_plain", "identity")
    heads, tails = await identities("fault_heads", "identity"), await identities("fault_tails", "identity")
    first = await identities("device_sensor_gps_raw", "message_id")
    newest = await identities("emails_with_embeddings", "embedding_model")
    standing = _standing(expected)
    for each in expected:
        letter = letters[f"{each.topic}.{suffix}", each.partition, each.offset]
        if each.topic == topics.PLAIN.name:
            rows: tuple[int, ...] = (plain.pop(each.identity, 0),)
        elif each.topic == topics.PAIR.name:
            rows = (heads.pop(each.identity, 0), tails.pop(each.identity, 0))
        else:
            there = (first if each.topic == topics.FIRST.name else newest).pop(each.identity, 0)
            rows = (there,)
            if each.fate == "row" and each not in standing:
                rows = (1 + there,)  # another one stands for its key: right if this one doesn't
        verdict.judge(each, rows, letter)
    for table, strangers in {"plain": plain, "heads": heads, "tails": tails, "first": first, "newest": newest}.items():
        if strangers:
            verdict.twice += len(strangers)
            verdict._wrong(f"rows of nobody in {table}: {sorted(strangers)[:3]}")
    await _account(sql, verdict, by_partition(expected), suffix, extra, passed)
    return verdict


def _standing(sent: list[Sent]) -> set[Sent]:
    """Of the topics with a key: the messages whose rows must stand, the first or the newest of each key."""
    keys: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    for each in sent:
        if each.key is not None and each.fate == "row":
            keys[each.topic, each.key].append(each)
    standing: set[Sent] = set()
    for (topic, _), them in keys.items():
        by_time = topic == topics.NEWEST.name
        standing.add(max(them, key=lambda each: each.second) if by_time else min(them, key=lambda each: each.offset))
    return standing


async def _account(
    sql: Sql,
    verdict: Verdict,
    sent: dict[tuple[str, int], int],
    suffix: str,
    extra: dict[tuple[str, int], int],
    passed: dict[str, int],
) -> None:
    rows = {
        (row["topic"].removesuffix(f".{suffix}"), row["partition"]): row
        for row in await sql(
            "SELECT topic, partition, (written + duplicate + dead_lettered)::int AS ended, passed::int AS passed, "
            "(next_offset - first_offset - written - duplicate - dead_lettered - passed - moved)::int AS off "
            "FROM ingest_offsets"
        )
    }
    for where in sorted(sent | rows):
        again = extra.get(where, 0)
        wanted = sent.get(where, 0) + again
        ended, off = (rows[where]["ended"], rows[where]["off"]) if where in rows else (0, 0)
        if ended != wanted:
            verdict._wrong(f"the account of {where} does not close: {ended} instead of {wanted}")
        if off != -again:  # what was moved by hand is not in the row's own account, and must be seen in it
            verdict._wrong(f"the row of {where} is {off} offsets from where its account leads, instead of {-again}")
    without = Counter[str]()
    for (topic, _), row in rows.items():
        without[topic] += row["passed"]
    for topic, number in without.items():
        if number != passed.get(topic, 0):
            verdict._wrong(f"of {topic}, {number} offsets are passed as without a message, not {passed.get(topic, 0)}")
