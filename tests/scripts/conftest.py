"""A consumer that runs on the local stack, and the programs through which the scripts look at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from ingest.local.postgres import query
from ingest.local.stack import Stack
from tests.scripts.programs import Programs
from tests.support import kafka
from tests.support.database import with_database
from tests.support.messages import encode, gps
from tests.support.service import Service, service_environment
from tests.support.topics import ARCHIVED, EMOTIONS, GPS, LIKES, PLAIN
from tests.support.waiting import eventually

CONTEXT = "k3d-loom"
NAME = "kafka-to-db-consumer"
READY = {
    "get deployment kafka-to-db-consumer .*readyReplicas.*": "3|3",
    "get pods -l app=kafka-to-db-consumer": f"NAME                    READY  STATUS\n{NAME}-a  1/1    Running\n",
    "top pods -l app=kafka-to-db-consumer": f"NAME                    CPU   MEMORY\n{NAME}-a  12m   120Mi\n",
}


@dataclass
class Consumer:
    """A consumer group with its topics and its database; its service, if it was started."""

    stack: Stack
    database_url: str
    suffix: str
    directory: Path
    service: Service | None = None

    @property
    def group(self) -> str:
        return f"group-{self.suffix}"

    @property
    def gps(self) -> str:
        return f"{GPS.name}.{self.suffix}"

    @property
    def variables(self) -> dict[str, str]:
        return {"LOOM_DATABASE_URL": self.database_url, "LOOM_KAFKA_BOOTSTRAP_SERVERS": self.stack.kafka}

    async def create_topics(self) -> None:
        names = [f"{each.name}.{self.suffix}" for each in (EMOTIONS, GPS, LIKES, ARCHIVED, PLAIN)]
        await kafka.create_topics(self.stack.kafka, names)

    async def produce(self, count: int) -> None:
        """GPS readings, into partition 0."""
        await kafka.produce(self.stack.kafka, self.gps, (encode(gps(n)) for n in range(count)), partition=0)

    def start(self) -> None:
        environment = service_environment(self.stack, self.database_url, self.suffix, LOOM_MONITOR_EVERY="1")
        self.service = Service(environment, self.directory / f"service-{uuid4().hex[:6]}.log").start()

    async def caught_up(self) -> None:
        """Until all is written, and the newest samples say so."""

        async def told() -> bool:
            rows = query(
                self.database_url,
                "SELECT partitions = 15 AND total_lag = 0 AND messages_processed > 0 AS told"
                " FROM v_consumer_performance_monitor WHERE consumer_group = $1",
                self.group,
            )
            return bool(rows and rows[0]["told"])

        await eventually(told)

    def stop(self) -> None:
        if self.service is not None:
            self.service.stop()

    def sql(self, statement: str, *arguments: object) -> list[dict[str, object]]:
        return [dict(row) for row in query(self.database_url, statement, *arguments)]


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """psql and Kafka's command, and nothing that reaches a cluster."""
    programs = Programs(tmp_path / "programs")
    programs.add_psql()
    programs.add_kafka()
    yield programs
    assert programs.unknown_calls() == []
    assert programs.left_behind() == []


@pytest.fixture
def cluster(programs: Programs) -> Programs:
    """A cluster with three pods that are ready, as far as kubectl tells."""
    programs.stand_in("kubectl")
    programs.on("kubectl", "config current-context", {"out": f"{CONTEXT}\n"})
    for match, out in READY.items():
        programs.on("kubectl", f"--namespace loom-dev .*{match}", {"out": out})
    return programs


@pytest.fixture
async def consumer(stack: Stack, database_url: str, suffix: str, tmp_path: Path) -> AsyncIterator[Consumer]:
    """Its topics exist; its service is not started."""
    consumer = Consumer(stack, database_url, suffix, tmp_path)
    await consumer.create_topics()
    yield consumer
    if consumer.service is not None:
        consumer.service.clean_up()


@pytest.fixture(scope="package")
async def running(stack: Stack, template: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Consumer]:
    """A consumer that runs and has caught up. Shared: tests only look at it."""
    name = f"test_{uuid4().hex[:12]}"
    query(stack.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    consumer = Consumer(
        stack, with_database(stack.database_url, name), uuid4().hex[:8], tmp_path_factory.mktemp("running")
    )
    await consumer.create_topics()
    await consumer.produce(300)
    consumer.start()
    try:
        await consumer.caught_up()
        yield consumer
    finally:
        assert consumer.service is not None
        consumer.service.clean_up()
        query(stack.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def sample(consumer: Consumer, group: str = "", **changes: Any) -> None:
    """A sample as a pod writes it; of the consumer's group unless another is named."""
    row = {"partition": 7, "current_offset": 100, "log_end_offset": 100, "lag": 0, "age": "0 s"} | changes
    query(
        consumer.database_url,
        "INSERT INTO consumer_lag_history"
        " (consumer_group, topic, partition, current_offset, log_end_offset, lag, timestamp)"
        " VALUES ($1, 'some.topic', $2, $3, $4, $5, now() - $6::text::interval)",
        group or consumer.group, row["partition"], row["current_offset"], row["log_end_offset"], row["lag"], row["age"],
    )  # fmt: skip


def in_pods(programs: Programs, consumer: Consumer) -> None:
    """The deployments timescaledb and kafka: `kubectl exec` into them runs psql and Kafka's command here."""
    url = urlsplit(consumer.database_url)
    server = {"PGHOST": str(url.hostname), "PGPORT": str(url.port), "PGPASSWORD": str(url.password)}
    programs.on(
        "kubectl",
        ".*exec -i deployment/timescaledb -- psql .*-U loom -d loom .*",
        {"exec": ["-d", url.path[1:]], "env": server, "replace": {}},
    )
    programs.on("kubectl", ".*get deployment kafka-to-db-consumer .*BOOTSTRAP_SERVERS.*", {"out": "brokers:9093"})
    programs.on(
        "kubectl",
        ".*exec deployment/kafka -- sh -c .*",
        {"exec": [], "env": {}, "replace": {"brokers:9093": consumer.stack.kafka}},
    )


def played_kafka(programs: Programs, lag: int = 0) -> None:
    """What Kafka's command prints in the pod, where a test is about something else: starting Java takes a second."""
    table = (
        "\nGROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID\n"
        f"group some.topic 0 100 {100 + lag} {lag} loom-1-0 /10.0.0.1 loom-1\n"
    )
    programs.on("kubectl", ".*get deployment kafka-to-db-consumer .*BOOTSTRAP_SERVERS.*")
    programs.on("kubectl", ".*exec deployment/kafka -- sh -c .* --bootstrap-server kafka:9092 .*", {"out": table})
