"""``compose.yaml``, brought up as it is: everything healthy, three consumers at work, the account closes."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from ingest.local.waiting import wait_for
from tests.image import images
from tests.image.conftest import HERE
from tests.image.images import run
from tests.support.database import ROOT

CONSUMERS = 3
UP_DEADLINE_S = 420


def _command() -> list[str]:
    """Compose v2 where Docker has it, else docker-compose."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0:
        return ["docker", "compose"]
    if shutil.which("docker-compose"):
        return ["docker-compose"]
    pytest.exit("neither `docker compose` nor docker-compose is here", returncode=2)


class Composition:
    """The services of ``compose.yaml`` under a name of their own."""

    def __init__(self, *, plain: bool) -> None:
        files = [ROOT / "compose.yaml", *([HERE / "compose.plain.yaml"] if plain else [])]
        self._command = _command()
        self._name = f"loomtest{uuid4().hex[:8]}"
        self._options = ["--project-name", self._name]
        for file in files:
            self._options += ["--file", str(file)]

    def __call__(self, *arguments: str, timeout_s: float = 120) -> str:
        return run(*self._command, *self._options, *arguments, timeout_s=timeout_s)

    @property
    def version(self) -> str:
        return f"{' '.join(self._command)} {run(*self._command, 'version', '--short').strip()}"

    def containers(self, service: str) -> list[str]:
        return self("ps", "--quiet", service).split()

    def states(self, service: str) -> list[str]:
        """Health of each of its containers, where it has a check; else its state and exit code."""
        asked = "{{if .State.Health}}{{.State.Health.Status}}{{else}}{{.State.Status}} {{.State.ExitCode}}{{end}}"
        return [run("docker", "inspect", "--format", asked, each).strip() for each in self.containers(service)]

    def exit_codes(self, service: str) -> list[int]:
        """Of its containers that have ended."""
        ours = [f"label=com.docker.compose.{name}" for name in (f"project={self._name}", f"service={service}")]
        filters = [part for each in (*ours, "status=exited") for part in ("--filter", each)]
        ended = run("docker", "ps", "--all", "--quiet", *filters).split()
        return [int(run("docker", "inspect", "--format", "{{.State.ExitCode}}", each)) for each in ended]

    def value(self, statement: str) -> str:
        psql = ("psql", "--username", "loom", "--no-align", "--tuples-only", "--command", statement)
        return run("docker", "exec", self.containers("timescaledb")[0], *psql).strip()


@pytest.fixture(scope="module")
def composition(
    image: str, kafka_image: images.Image, database_image: images.Image, report: dict[str, str]
) -> Iterator[Composition]:
    composition = Composition(plain=database_image.stand_in.endswith(images.PLAIN))
    report["compose"] = composition.version
    began = time.monotonic()
    try:
        try:
            composition("up", "--detach", timeout_s=UP_DEADLINE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{composition('logs')}") from None
        report["compose up"] = f"{time.monotonic() - began:.0f} s until it returned"
        yield composition
    finally:
        composition("down", "--volumes", timeout_s=UP_DEADLINE_S)


def test_all_of_it_comes_up(composition: Composition, report: dict[str, str]) -> None:
    began = time.monotonic()
    wanted = ["healthy"] * CONSUMERS
    came = wait_for(lambda: composition.states("consumer") == wanted, deadline_s=UP_DEADLINE_S, every_s=1)
    assert came, composition("logs", "consumer")
    report["consumers healthy"] = f"{time.monotonic() - began:.0f} s later"
    assert composition.states("kafka") == ["healthy"]
    assert composition.states("timescaledb") == ["healthy"]
    assert composition.states("sample") == ["running 0"]
    assert composition.exit_codes("migration") == [0]


def test_three_consumers_share_the_partitions_and_write_the_stream(composition: Composition) -> None:
    def members() -> int:
        told = run(
            *("docker", "exec", composition.containers("kafka")[0], "/opt/kafka/bin/kafka-consumer-groups.sh"),
            *("--bootstrap-server", "kafka:9092", "--describe", "--group", "kafka-to-db-consumer"),
        )
        return len({line.split()[6] for line in told.splitlines() if line.startswith("kafka-to-db-consumer")} - {"-"})

    assert wait_for(lambda: members() == CONSUMERS, deadline_s=120, every_s=2), composition("logs", "consumer")
    ended = "SELECT coalesce(sum(written + duplicate + dead_lettered), 0) FROM ingest_offsets"
    before = int(composition.value(ended))
    assert wait_for(lambda: int(composition.value(ended)) > before + 500, deadline_s=120, every_s=1)
    assert int(composition.value("SELECT count(*) FROM ingest_dead_letters")) > 0
    assert int(composition.value("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '%kafka%'")) > 0


def test_the_pages_of_all_consumers_are_on_this_machine(composition: Composition) -> None:
    ports = sorted(
        int(run("docker", "port", each, "8080").splitlines()[0].rpartition(":")[2])
        for each in composition.containers("consumer")
    )
    assert ports == [8081, 8082, 8083]


def test_stopping_a_consumer_takes_less_than_its_grace(composition: Composition) -> None:
    consumer = composition.containers("consumer")[0]
    period = json.loads(run("docker", "inspect", "--format", "{{json .Config.StopTimeout}}", consumer))
    assert period == 40
    composition("stop", "sample", "consumer", timeout_s=120)
    assert composition.exit_codes("consumer") == [0] * CONSUMERS, composition("logs", "consumer")
