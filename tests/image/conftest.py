"""The engine, the images, and the report of what was found. Run by ``make image-test``, not with the other tests."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.image import images
from tests.image.box import engine_answers
from tests.image.containers import Container, Engine
from tests.image.images import run
from tests.support.database import ROOT

HERE = Path(__file__).parent
NAME = "kafka-to-db-consumer:0.1.0"
REPORT = pytest.StashKey[dict[str, str]]()
DATABASE_URL = "postgresql://loom:loom@timescaledb:5432/loom"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """These tests are run where they are asked for by their path: a plain ``pytest`` needs no Docker."""
    asked = [Path(config.invocation_params.dir, argument.split("::")[0]) for argument in config.args]
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    found = config.stash.get(REPORT, {})
    if found:
        terminalreporter.section("image")
        width = max(map(len, found))
        for name, value in found.items():
            terminalreporter.write_line(f"{name:<{width}}  {value}")


@pytest.fixture(scope="session")
def report(pytestconfig: pytest.Config) -> dict[str, str]:
    """What is printed at the end: what was a stand-in, sizes, times."""
    if not engine_answers():
        pytest.exit("no Docker engine answers; `make image-test` starts one where it can", returncode=2)
    found = pytestconfig.stash.setdefault(REPORT, {})
    found["engine"] = run("docker", "version", "--format", "Docker {{.Server.Version}}").strip()
    return found


def _told(report: dict[str, str], image: images.Image) -> images.Image:
    what = f"STAND-IN: {image.stand_in}" if image.stand_in else "official image"
    report[image.name] = f"{what} (had after {image.seconds:.0f} s)"
    return image


@pytest.fixture(scope="session")
def python_image(report: dict[str, str]) -> images.Image:
    """The Dockerfile's base."""
    line = (ROOT / "Dockerfile").read_text().partition("ARG PYTHON_IMAGE=")[2].splitlines()[0]
    return _told(report, images.python(line))


@pytest.fixture(scope="session")
def kafka_image(report: dict[str, str]) -> images.Image:
    return _told(report, images.kafka())


@pytest.fixture(scope="session")
def database_image(report: dict[str, str]) -> images.Image:
    return _told(report, images.database())


@pytest.fixture(scope="session")
def image(report: dict[str, str], python_image: images.Image) -> str:
    """The name of the service's image, which ``make docker`` has built."""
    began = time.monotonic()
    built = subprocess.run(
        ["nice", "make", "docker"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name not in ("REGISTRY", "IMAGE", "TAG")},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    report["make docker"] = f"{time.monotonic() - began:.0f} s"
    sizes = [
        int(run("docker", "image", "inspect", "--format", "{{.Size}}", name)) for name in (NAME, python_image.name)
    ]
    whole, base = (f"{size / 1e6:.0f} MB" for size in sizes)
    own = f"{(sizes[0] - sizes[1]) / 1e6:.0f} MB"
    report["size"] = f"{own} of its own on a base of {base}, {whole} in all"
    return NAME


@pytest.fixture(scope="session")
def engine(report: dict[str, str]) -> Iterator[Engine]:
    """A network of its own, with everything that is started in it."""
    engine = Engine(f"loom-image-test-{uuid4().hex[:8]}")
    yield engine
    engine.clean_up()


@pytest.fixture(scope="module")
def kafka(engine: Engine, kafka_image: images.Image) -> Container:
    """A broker at ``kafka:9092``."""
    settings = {
        "KAFKA_LISTENERS": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": "PLAINTEXT://kafka:9092",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_INTER_BROKER_LISTENER_NAME": "PLAINTEXT",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_NODE_ID": "1",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_AUTO_CREATE_TOPICS_ENABLE": "false",
    }
    variables = [part for name, value in settings.items() for part in ("--env", f"{name}={value}")]
    broker = engine.start(kafka_image.name, options=("--network-alias", "kafka", *variables))
    asked = ("/opt/kafka/bin/kafka-broker-api-versions.sh", "--bootstrap-server", "kafka:9092")
    broker.wait_until(lambda: broker.answers(*asked), what="the broker starts", within_s=120)
    return broker


@pytest.fixture(scope="module")
def database(engine: Engine, database_image: images.Image) -> Container:
    """A database at ``timescaledb:5432``, and at a port of this machine."""
    variables = [f"--env=POSTGRES_{name}=loom" for name in ("USER", "PASSWORD", "DB")]
    server = engine.start(
        database_image.name, options=("--network-alias", "timescaledb", "--publish", "127.0.0.1::5432", *variables)
    )
    asked = ("pg_isready", "--host", "127.0.0.1", "--username", "loom", "--dbname", "loom")
    server.wait_until(lambda: server.answers(*asked), what="the database starts", within_s=120)
    return server


@pytest.fixture(scope="module")
def settings(kafka: Container, database: Container, database_image: images.Image) -> tuple[str, ...]:
    """Options of ``docker run``: where broker and database are."""
    variables = {"LOOM_KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "LOOM_DATABASE_URL": DATABASE_URL}
    if database_image.stand_in.endswith(images.PLAIN):
        variables["LOOM_TIMESCALE"] = "auto"
    return tuple(f"--env={name}={value}" for name, value in variables.items())
