"""The image keeps its promises: small rights, nothing left over, and what it does as a process."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.local.postgres import query
from ingest.local.sample import stream
from tests.image.containers import HARDENED, Container, Engine
from tests.image.images import run
from tests.support.database import ROOT

GRACE_S = 40
"""LOOM_SHUTDOWN_GRACE, which is 20 s, ten more that a stop may take, and ten for a busy machine."""
MESSAGES, SEED = 30_000, 7
NOWHERE = ("--env=LOOM_KAFKA_BOOTSTRAP_SERVERS=192.0.2.1:9092", "--env=LOOM_DATABASE_URL=postgresql://a@192.0.2.1/a")
"""An address that no answer ever comes from (RFC 5737)."""
ALEMBIC = ("--entrypoint", "alembic")
PYTHON = ("--entrypoint", "python")


def test_it_runs_as_a_number_without_rights_and_can_write_nowhere(engine: Engine, image: str) -> None:
    line = (
        "import json, os; status = open('/proc/self/status').read().split(); "
        "print(json.dumps([os.getuid(), os.getgid(), os.getcwd(), status[status.index('CapEff:') + 1], "
        "[path for path in ('/', '/app', '/tmp', '/opt/venv') if os.access(path, os.W_OK)]]))"
    )
    done = engine.finish(image, "-c", line, options=(*HARDENED, *PYTHON))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [10001, 10001, "/app", "0000000000000000", []]
    assert run("docker", "image", "inspect", "--format", "{{.Config.User}}", image).strip() == "10001:10001"


def test_nothing_of_the_build_is_left(engine: Engine, image: str) -> None:
    code = (Path(__file__).parent / "contents.py").read_text()
    done = engine.finish(image, "-c", code, options=(*HARDENED, "--user", "0:0", *PYTHON))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found.pop("sources") > 1000
    assert found.pop("service").startswith("/opt/venv/lib/")
    assert set(found) == {"tools", "modules", "pip", "left", "uncompiled", "writable"}
    assert {name: paths for name, paths in found.items() if paths} == {}


def test_its_labels_say_what_it_is(image: str) -> None:
    labels = json.loads(run("docker", "image", "inspect", "--format", "{{json .Config.Labels}}", image))
    prefix = "org.opencontainers.image."
    revision = run("git", "-C", str(ROOT), "rev-parse", "HEAD").strip()
    assert labels[f"{prefix}title"] == "loom-ingest"
    assert labels[f"{prefix}version"] == image.rpartition(":")[2]
    assert labels[f"{prefix}revision"].removesuffix("-dirty") == revision


def test_a_missing_setting_is_one_line_and_exit_code_2(engine: Engine, image: str) -> None:
    done = engine.finish(image, options=HARDENED)
    assert done.returncode == 2
    assert "LOOM_KAFKA_BOOTSTRAP_SERVERS" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


@pytest.fixture(scope="module")
def migrated(engine: Engine, image: str, settings: tuple[str, ...], database: Container, report: dict[str, str]) -> str:
    """The database's address for this machine, after ``alembic upgrade head`` from the image."""
    began = time.monotonic()
    done = engine.finish(image, "upgrade", "head", options=(*HARDENED, *ALEMBIC, *settings))
    assert done.returncode == 0, done.stderr
    report["alembic upgrade head"] = f"{time.monotonic() - began:.1f} s, container included"
    return f"postgresql://loom:loom@127.0.0.1:{database.port(5432)}/loom"


def ledger(url: str) -> dict[tuple[str, int], int]:
    """(topic, partition) → next offset."""
    return {
        (row["topic"], row["partition"]): row["next_offset"]
        for row in query(url, "SELECT topic, partition, next_offset FROM ingest_offsets")
    }


def committed(kafka: Container) -> dict[tuple[str, int], int]:
    """(topic, partition) → the offset that Kafka's own tool shows for the group."""
    told = run(
        *("docker", "exec", kafka.id, "/opt/kafka/bin/kafka-consumer-groups.sh", "--bootstrap-server", "kafka:9092"),
        *("--describe", "--group", "kafka-to-db-consumer"),
    )
    rows = [line.split() for line in told.splitlines() if line.startswith("kafka-to-db-consumer")]
    return {(row[1], int(row[2])): int(row[3]) for row in rows if row[3] != "-"}


def accounted(url: str) -> tuple[int, int, int]:
    """Messages that ended, dead letters by the ledger, dead letters that are there."""
    (totals,) = query(
        url,
        "SELECT coalesce(sum(written + duplicate + dead_lettered), 0)::int AS ended, "
        "coalesce(sum(dead_lettered), 0)::int AS dead, (SELECT count(*)::int FROM ingest_dead_letters) AS letters "
        "FROM ingest_offsets",
    )
    return totals["ended"], totals["dead"], totals["letters"]


def test_it_migrates_consumes_and_stops_in_its_grace_with_offsets_where_rows_are(
    engine: Engine,
    image: str,
    settings: tuple[str, ...],
    kafka: Container,
    migrated: str,
    report: dict[str, str],
) -> None:
    done = engine.finish(image, "check", options=(*HARDENED, *settings))
    assert done.returncode == 0, done.stderr
    produce = ("sample", "--messages", str(MESSAGES), "--seed", str(SEED))
    done = engine.finish(image, *produce, options=(*HARDENED, *settings))
    assert done.stdout == f"{MESSAGES:,} messages produced, seed {SEED}\n", done.stderr

    began = time.monotonic()
    first = engine.start(image, options=(*HARDENED, *settings))
    first.wait_until(lambda: accounted(migrated)[0] > 500, what="it consumes", within_s=90)
    report["ingest run"] = f"first 500 messages {time.monotonic() - began:.1f} s after docker run"
    began = time.monotonic()
    assert first.stop(GRACE_S) == 0, first.log
    stopped_s = time.monotonic() - began
    report["SIGTERM"] = f"exit code 0 after {stopped_s:.1f} s, in the middle of the stream"
    assert stopped_s < GRACE_S
    half = accounted(migrated)
    assert 500 < half[0] < MESSAGES, "it was to be stopped in the middle"
    # Dense offsets: what the ledger has passed is what has ended; and Kafka was told the same.
    assert sum(ledger(migrated).values()) == half[0]
    assert committed(kafka) == ledger(migrated)

    began = time.monotonic()
    second = engine.start(image, options=(*HARDENED, *settings))
    second.wait_until(lambda: accounted(migrated)[0] >= MESSAGES, what="it consumes the rest", within_s=120)
    report["stream"] = f"the other {MESSAGES - half[0]:,} of {MESSAGES:,} messages in {time.monotonic() - began:.1f} s"
    assert second.stop(GRACE_S) == 0, second.log
    bad = sum(message.fault is not None for message in stream(MESSAGES, seed=SEED, now=datetime.now(UTC)))
    assert accounted(migrated) == (MESSAGES, bad, bad)
    assert sum(ledger(migrated).values()) == MESSAGES
    assert committed(kafka) == ledger(migrated)


def test_the_first_process_hears_sigterm_while_it_waits(engine: Engine, image: str) -> None:
    """A pod whose database never came is stopped at once, not killed when its grace is over."""
    nowhere = (
        "--env=LOOM_KAFKA_BOOTSTRAP_SERVERS=192.0.2.1:9092",
        "--env=LOOM_DATABASE_URL=postgresql://a@192.0.2.1/a",
    )
    waiting = engine.start(image, options=(*HARDENED, *nowhere))
    waiting.wait_until(lambda: "serving" in waiting.log, what="it starts")
    began = time.monotonic()
    assert waiting.stop(GRACE_S) == 0, waiting.log
    assert time.monotonic() - began < 10


def hears_sigterm(container: Container) -> bool:
    """Whether its first process has a handler: the kernel has no default for that one."""
    caught = r"import re; print(int(re.search(r'SigCgt:\s*(\w+)', open('/proc/1/status').read())[1], 16) >> 14 & 1)"
    done = subprocess.run(
        ["docker", "exec", container.id, "python", "-c", caught], capture_output=True, text=True, check=False
    )
    return done.stdout == "1\n"


def test_a_command_that_hangs_ends_by_sigterm(engine: Engine, image: str) -> None:
    hanging = engine.start(image, "check", options=(*HARDENED, *NOWHERE))
    hanging.wait_until(lambda: hears_sigterm(hanging), what="it starts")
    began = time.monotonic()
    assert hanging.stop(GRACE_S) == 143, hanging.log
    assert time.monotonic() - began < 10


def test_the_endless_sample_ends_by_sigterm(engine: Engine, image: str, settings: tuple[str, ...]) -> None:
    def connected() -> bool:
        """To the broker's port 9092: it is past its start."""
        return producer.answers("python", "-c", "import sys; sys.exit(':2384 ' not in open('/proc/1/net/tcp').read())")

    producer = engine.start(image, "sample", options=(*HARDENED, *settings))
    producer.wait_until(connected, what="it connects")
    assert producer.stop(GRACE_S) == 0, producer.log
    assert "messages produced" in producer.log
