"""What the demo shows: steps, the live table, the account, examples. Plain lines where it is no terminal."""

from __future__ import annotations

import io
import re
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from sqlalchemy import RowMapping

from ingest.local.demo_account import Examples, TopicAccount
from ingest.local.demo_service import Counters
from ingest.local.sample_topics import (
    ACCELEROMETER,
    ARCHIVED,
    CONTENT,
    EMAILS,
    EMOTIONS,
    FACES,
    GPS,
    LIKES,
    REASONING,
    SHARES,
    VISION,
    VOICE,
    WORDS,
)

WIDTH = 100
PLAIN_EVERY_S = 2.0
RATE_OVER_S = 3.0
SHORT = {
    ACCELEROMETER: "sensor.accelerometer",
    GPS: "sensor.gps",
    WORDS: "text.word_timestamps",
    VOICE: "audio.voice_segments",
    VISION: "image.annotations",
    EMOTIONS: "audio.emotion_scores",
    FACES: "image.face_emotions",
    REASONING: "context.reasoning",
    CONTENT: "url.processed_content",
    EMAILS: "embedded.emails",
    LIKES: "embedded.twitter",
    ARCHIVED: "twitter_archived",
}
LABEL_WIDTH = 11
COUNT_WIDTH = 12
ERROR_WIDTH = 60


@dataclass
class Progress:
    """Where the stream is now."""

    total: int
    """Messages that will be produced."""
    produced: int = 0
    counters: Mapping[str, Counters] = field(default_factory=dict)
    lag: Mapping[str, int] = field(default_factory=dict)
    """Broker's end minus ledger, by topic."""
    _seen: deque[tuple[float, Mapping[str, int]]] = field(default_factory=deque)
    _began: float | None = None
    _ended: float = 0.0

    def observe(self, now: float, counters: Mapping[str, Counters], lag: Mapping[str, int]) -> None:
        """A new reading, by a monotonic clock."""
        moved = sum(each.written for each in counters.values()) != self._sum("written")
        self.counters, self.lag = counters, lag
        if moved:
            if self._began is None:
                self._began = self._seen[-1][0] if self._seen else now
            self._ended = now
        self._seen.append((now, {topic: each.written for topic, each in counters.items()}))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RATE_OVER_S:
            self._seen.popleft()

    @property
    def accounted(self) -> int:
        return self._sum("written") + self._sum("duplicate") + self._sum("dead_lettered")

    def rate(self, topic: str) -> float:
        """Messages written a second, over the last seconds."""
        (begin, first), (end, last) = (self._seen[0], self._seen[-1]) if self._seen else ((0.0, {}), (0.0, {}))
        return (last.get(topic, 0) - first.get(topic, 0)) / (end - begin) if end > begin else 0.0

    def mean_rate(self, topic: str) -> float:
        """Messages written a second, over the whole stream."""
        took = self._ended - (self._began or 0.0)
        return self.counters.get(topic, Counters()).written / took if took > 0 else 0.0

    def _sum(self, name: str) -> int:
        return sum(getattr(each, name) for each in self.counters.values())

    def line(self) -> str:
        """Where it is, for a log."""
        rate = sum(map(self.rate, SHARES))
        return (
            f"{self.accounted:,} of {self.total:,}: {self._sum('written'):,} written, "
            f"{self._sum('duplicate'):,} duplicate, {self._sum('dead_lettered'):,} dead-lettered, "
            f"lag {sum(self.lag.values()):,}, {rate:,.0f} rows/s"
        )


class Screen:
    """Where the demo speaks; remembers all it said, for the picture."""

    def __init__(self, messages: int) -> None:
        self.console = Console(highlight=False)
        if not self.console.is_terminal:
            self.console = Console(highlight=False, width=WIDTH)
        self._messages = messages
        self._shown: list[RenderableType] = []
        self._live: Live | None = None
        self._plain_at = 0.0

    def title(self) -> None:
        self._show(
            Text.assemble(
                ("\nloom-ingest demo", "bold"),
                (f"   {self._messages:,} messages through Kafka into PostgreSQL, each exactly once\n", "dim"),
            )
        )

    def step(self, line: str) -> None:
        """What is being done, as ``Part: what``."""
        label, colon, what = line.partition(": ")
        if not colon:
            label, what = "", line
        text = Text.assemble((f"{label:<{LABEL_WIDTH}}", "cyan"), (what, ""))
        text.no_wrap, text.overflow = not self.console.is_terminal, "fold"
        self._show(text)

    def blank(self) -> None:
        self._show(Text())

    def plain(self, line: str) -> None:
        """A line that is no part of the picture."""
        self.console.print(line, markup=False)

    @contextmanager
    def live(self, progress: Progress) -> Iterator[None]:
        """Shows the progress at each :meth:`update` inside the block, and how it ended after it."""
        if self.console.is_terminal:
            with Live(_progress(progress, final=False), console=self.console, auto_refresh=False) as self._live:
                yield
                self._live.update(_progress(progress, final=True), refresh=True)
            self._live = None
            self._shown.append(_progress(progress, final=True))
        else:
            yield
            self._show(_progress(progress, final=True))

    def update(self, progress: Progress) -> None:
        if self._live is not None:
            self._live.update(_progress(progress, final=False), refresh=True)
        elif time.monotonic() >= self._plain_at:
            self._plain_at = time.monotonic() + PLAIN_EVERY_S
            self.plain(progress.line())

    def account(self, accounts: Iterable[TopicAccount]) -> None:
        """The account of all topics, and every problem on a line of its own."""
        accounts = list(accounts)
        table = _table(
            ("in Kafka", ""), ("= written", "green"), ("+ duplicate", ""), ("+ dead letters", "yellow"), ("rows", "")
        )
        for each in accounts:
            mark = Text("✗", "bold red") if each.problems else Text("✓", "bold green")
            counts = (each.in_kafka, each.written, each.duplicate, each.dead_lettered, each.rows)
            table.add_row(Text.assemble(mark, " ", SHORT[each.topic]), *(f"{count:,}" for count in counts))
        self._show(
            Text.assemble(("\nThe account", "bold"), ("   counted in broker and tables, not by the service\n", "dim"))
        )
        self._show(table)
        self._show(Text("\n  Of emails and tweets the last one wins: several messages may be one row.", "dim"))
        for each in accounts:
            for problem in each.problems:
                self._show(Text.assemble(("✗ ", "bold red"), f"{SHORT[each.topic]}: {problem}"))

    def examples(self, found: Examples) -> None:
        rows = _lines("cyan", "", "", "")
        if row := found.gps:
            where = f"{row['latitude']:.5f}, {row['longitude']:.5f}   {row['speed']} m/s"
            rows.add_row(SHORT[GPS], _clock(row), row["device_id"], where)
        if row := found.emotion:
            heard = f"{row['predicted_emotion']} {row['confidence_score']:.2f}   valence {row['valence_score']:+.2f}"
            rows.add_row(SHORT[EMOTIONS], _clock(row), row["device_id"], heard)
        if row := found.like:
            rest = f"vector({row['dimensions']})   {row['screenshot_url'] or ''}"
            rows.add_row(SHORT[LIKES], _clock(row), f"@{row['author_username']}", rest)
        letters = _lines("cyan", "yellow", "")
        for row in found.letters:
            error = row["error"] if len(row["error"]) <= ERROR_WIDTH else row["error"][: ERROR_WIDTH - 1] + "…"
            letters.add_row(SHORT[row["topic"]], row["stage"], Text(error))
        self._show(
            Group(
                Text("\nThree rows\n", "bold"),
                _indented(rows),
                Text("\nThree dead letters\n", "bold"),
                _indented(letters),
            )
        )

    def next_steps(self, steps: Iterable[tuple[str, str]]) -> None:
        table = _lines("", "dim")
        for command, what in steps:
            table.add_row(command, what)
        self._show(Group(Text("\nWhat next\n", "bold"), _indented(table), Text()))

    def save_svg(self, path: Path) -> None:
        """All that was shown, as a picture."""
        recorder = Console(
            record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
        )
        for each in self._shown:
            recorder.print(each)
        # Without it some renderers drop the spaces that align the numbers.
        picture = recorder.export_svg(title="make demo").replace("<svg ", '<svg xml:space="preserve" ', 1)
        # rich names a font on somebody's server: a picture in a README should fetch nothing.
        path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL))

    def _show(self, renderable: RenderableType) -> None:
        self._shown.append(renderable)
        self.console.print(renderable)


def _progress(progress: Progress, *, final: bool) -> RenderableType:
    """The live table; at its end with the mean of rows/s instead of the last seconds'."""
    rate = progress.mean_rate if final else progress.rate
    table = _table(
        ("read", ""), ("written", "green"), ("duplicate", ""), ("dead letters", "yellow"), ("lag", ""), ("rows/s", "")
    )
    sums = [0.0] * 6
    for topic in SHARES:
        each = progress.counters.get(topic, Counters())
        numbers = (
            each.read, each.written, each.duplicate, each.dead_lettered, progress.lag.get(topic, 0), rate(topic),
        )  # fmt: skip
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
        table.add_row(f"  {SHORT[topic]}", *map(_number, numbers))
    table.add_section()
    table.add_row("  all", *map(_number, sums), style="bold")
    bar = ProgressBar(
        progress.total, progress.accounted, width=40, complete_style="green", finished_style="green", style="dim"
    )
    under = Table.grid(padding=(0, 2))
    under.add_row(
        "", bar, Text(f"{progress.produced:,} produced, {progress.accounted:,} of {progress.total:,} accounted", "dim")
    )
    return Group(Text(), table, Text(), under)


def _table(*columns: tuple[str, str]) -> Table:
    """Topics and counts: the same columns for the live table and the account."""
    table = Table(box=None, padding=(0, 0), pad_edge=False, header_style="dim", show_edge=False)
    table.add_column("  topic", no_wrap=True, min_width=24)
    for name, style in columns:
        table.add_column(name, style=style, justify="right", no_wrap=True, min_width=max(COUNT_WIDTH, len(name) + 2))
    return table


def _lines(*styles: str) -> Table:
    """Short columns that are not wrapped."""
    table = Table.grid(padding=(0, 3, 0, 0))
    for style in styles:
        table.add_column(style=style, no_wrap=True, overflow="crop")
    return table


def _indented(renderable: RenderableType) -> RenderableType:
    return Padding(renderable, (0, 0, 0, 2))


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _clock(row: RowMapping) -> str:
    return f"{row['timestamp']:%H:%M:%S}"
