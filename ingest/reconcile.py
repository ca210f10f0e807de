"""Do ledger, dead letters and broker agree, and does each partition's account close? Pure: it judges what was read.

A *finding* is what can't be while nobody changes the ledger by hand and the broker keeps its messages; a *note* is what
whoever looks should know. Both are one line for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ingest.consumer import Bounds
from ingest.settings import KafkaSettings
from ingest.standing import Row, Standing

NEWEST_MOVES = 3
"""Moves of a partition that are told one by one."""


@dataclass(frozen=True, slots=True)
class Remark:
    """What there is to say of a partition."""

    topic: str
    partition: int
    text: str
    finding: bool = False


def judge(
    standings: Iterable[Standing], settings: KafkaSettings, database_id: str, *, active: bool = False
) -> list[Remark]:
    """Everything there is to say, in the order of the partitions. ``active``: a process of the group may be running."""
    standings = list(standings)
    known = {each.topic for each in standings if each.row is not None}
    remarks = []
    for each in standings:
        said = (
            *_account(each),
            *_reading(each, settings, topic_is_known=each.topic in known, active=active),
            *_committed(each, database_id),
            *_letters(each),
            *_moves(each),
        )
        remarks += [Remark(each.topic, each.partition, text, finding) for finding, text in said]
    return remarks


Said = Iterator[tuple[bool, str]]


def _account(standing: Standing) -> Said:
    row = standing.row
    if row is None:
        return
    if row.off is None:
        yield False, "its row is from before accounts, so whether it closes can't be told"
    elif row.off:
        yield (
            True,
            f"the account does not close: next offset {row.next_offset} is {abs(row.off)} "
            f"{'beyond' if row.off > 0 else 'short of'} {row.next_offset - row.off}, where its parts lead. Was the row "
            "changed by hand, or written by an older version while a newer one was rolled out?",
        )


def _reading(standing: Standing, settings: KafkaSettings, *, topic_is_known: bool, active: bool) -> Said:
    row, bounds, committed = standing.row, standing.bounds, standing.committed
    if standing.leaderless:
        yield (
            False,
            "it has no leader: where its log begins and ends can't be told, and nothing can be read. Look again",
        )
    elif bounds is None:
        if row is not None:
            yield (
                True,
                "the broker has no such partition, or does not show it to this login, and the ledger stands at "
                f"{row.next_offset} in it",
            )
    elif row is not None:
        yield from _place(row.next_offset, bounds, settings, active=active)
    elif committed is None:
        late = settings.auto_offset_reset == "latest" and not topic_is_known
        begins = f"at offset {bounds.end}, its end" if late else f"at offset {bounds.start}, its earliest"
        yield False, f"not begun; reading begins {begins}"
    elif committed.marker is None:
        yield False, f"not begun; reading goes on at offset {committed.offset}, where a former system stood"
        yield from _place(committed.offset, bounds, settings)
    else:
        yield (
            True,
            f"nothing is read: offset {committed.offset} was committed from the ledger of database "
            f"{committed.marker}, and this one has no row for it. The ledger is lost, or this is another database",
        )


def _place(next_offset: int, bounds: Bounds, settings: KafkaSettings, *, active: bool = False) -> Said:
    """Whether the broker has what comes next."""
    if next_offset < bounds.start:
        what = f"offsets {next_offset} to {bounds.start - 1} are gone from the broker and were not read"
        if active:  # it reads ahead of what it writes
            what += ", unless a running process has them in hand: look again before you stop it"
    elif next_offset > bounds.end:
        what = f"the log ends at {bounds.end}, before {next_offset}: the topic was made anew, or cut"
    else:
        return
    goes_on = settings.on_missing_offsets == "earliest"
    yield True, what + (f". Reading goes on at {bounds.start}" if goes_on else ". Nothing is read until you decide")


def _committed(standing: Standing, database_id: str) -> Said:
    row, committed = standing.row, standing.committed
    if row is None or committed is None:
        return
    if committed.marker is None:
        if committed.offset != row.next_offset:
            yield (
                False,
                f"offset {committed.offset} was committed by somebody else; nothing is read from there. "
                "`ingest offsets set` moves what is read next",
            )
    elif committed.marker != database_id:
        yield (
            True,
            f"offset {committed.offset} was committed from the ledger of database {committed.marker}, which is not "
            "this one: does another deployment use the same group?",
        )
    elif committed.offset > row.next_offset:
        yield (
            False,
            f"committed offset {committed.offset} is ahead of the ledger, which went back; the service corrects it "
            "when it starts",
        )


def _letters(standing: Standing) -> Said:
    counted = standing.row.dead_lettered if standing.row else 0
    surplus = standing.letters - counted
    if 0 < surplus <= standing.outside:
        yield (
            False,
            f"there are {standing.letters} dead letters, and the ledger counted {counted}: the others are older than "
            "its row's account, or lie where it was moved past them",
        )
    elif surplus > 0:
        yield True, f"there are more dead letters, {standing.letters}, than the ledger counted, {counted}"
    elif surplus < 0:
        yield False, f"{-surplus} of {counted} dead letters were deleted"
    if standing.repeated is not None:
        messages, first = standing.repeated
        more = f" and {messages - 1} more" if messages > 1 else ""
        yield True, f"offset {first}{more} became a dead letter more often than it was read"


def _moves(standing: Standing) -> Said:
    if len(standing.moves) > NEWEST_MOVES:
        yield False, f"it was moved {len(standing.moves)} times; these are the newest, ingest_offset_gaps has all"
    for move in standing.moves[-NEWEST_MOVES:]:
        yield (
            False,
            f"{move.created_at:%Y-%m-%d %H:%M:%S %Z}: moved from {move.from_offset} to {move.to_offset}: {move.reason}",
        )


def closes(row: Row) -> str:
    """One word for a table: whether the row's account closes, or by how much it does not."""
    if row.off is None:
        return "unknown"
    return f"{row.off:+d}" if row.off else "closes"
