"""One trial with few messages, on the tests' own stack: what the harness counts is what was sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.local.stack import Stack
from tests.benchmarks import trial
from tests.benchmarks.bed import Bed, Database, Load
from tests.benchmarks.contender import BY_LEDGER, Service, Start
from tests.benchmarks.workloads import EMOTION_SCORES, emotions

MESSAGES = 3_000


class Ended:
    """A contender that ends at once."""

    name = "ended"
    counted_by = BY_LEDGER

    def starts(self, bed: Bed, load: Load, database: Database, directory: Path) -> list[Start]:
        return [Start(["/bin/sh", "-c", "echo it has no licence >&2; exit 3"], {})]


@pytest.fixture
def bed(stack: Stack, tmp_path: Path) -> Bed:
    bed = Bed(stack, 20, tmp_path, say=lambda _: None)
    bed.make_template()
    return bed


async def test_a_trial_counts_every_message_and_the_ceiling_the_same_rows(bed: Bed, tmp_path: Path) -> None:
    files: dict[str, Path] = {}
    rows: list[int] = []

    async def look(database: Database) -> None:
        rows.append(database.query("SELECT count(*) FROM analysis_audio_emotion_scores_raw")[0][0])
        files.update(await trial.dump(database, bed.tables(EMOTION_SCORES.topics), tmp_path))

    async with bed.load(EMOTION_SCORES.topics, emotions(MESSAGES, 20)) as load:
        assert load.messages == await bed.ends(load.topics) == MESSAGES
        done = await trial.run(bed, Service(), load, after=look)
    copied = await trial.copy(bed, files)
    assert rows == [MESSAGES]
    assert copied.messages == MESSAGES
    assert 0 <= done.messages < MESSAGES  # what the first look saw is outside
    assert 20 < done.peak_mib < 2_000
    assert copied.rate > 0


async def test_a_contender_that_ends_is_a_failed_trial_with_its_last_words(bed: Bed) -> None:
    async with bed.load(EMOTION_SCORES.topics, emotions(1, 20)) as load:
        with pytest.raises(trial.TrialError, match=r"ended ended by itself.*it has no licence"):
            await trial.run(bed, Ended(), load)
