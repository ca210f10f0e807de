"""``ingest sample`` produces what it says, and ends when it is asked to."""

from __future__ import annotations

import signal
import subprocess
import sys

from ingest.local.ports import free_port
from ingest.local.sample import SHARES
from ingest.local.sample_producer import PARTITIONS
from ingest.local.stack import Stack
from tests.support.database import ROOT
from tests.support.kafka import end_offsets
from tests.support.waiting import eventually


def sample(kafka: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ingest", "sample", *arguments],
        env={"LOOM_KAFKA_BOOTSTRAP_SERVERS": kafka, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def in_kafka(kafka: str) -> int:
    return sum([sum((await end_offsets(kafka, topic, PARTITIONS)).values()) for topic in SHARES])


async def test_it_makes_the_topics_and_the_broker_holds_what_it_says(stack: Stack) -> None:
    told, complaint = sample(stack.kafka, "--messages", "500", "--seed", "3").communicate(timeout=120)
    assert told == "500 messages produced, seed 3\n", complaint
    before = await in_kafka(stack.kafka)
    assert before >= 500

    endless = sample(stack.kafka)
    try:
        await eventually(lambda: in_kafka(stack.kafka), until=lambda count: count > before, within_s=60)
        endless.send_signal(signal.SIGTERM)
        told, complaint = endless.communicate(timeout=60)
    finally:
        endless.kill()
    assert endless.returncode == 0, complaint
    assert await in_kafka(stack.kafka) == before + int(told.split()[0].replace(",", ""))


def test_a_broker_that_does_not_answer_is_one_line() -> None:
    nowhere = f"127.0.0.1:{free_port()}"
    done = sample(nowhere)
    _, complaint = done.communicate(timeout=60)
    assert done.returncode == 4
    (line,) = [line for line in complaint.splitlines() if line.startswith("ingest:")]
    assert nowhere in line
    assert "Traceback" not in complaint
