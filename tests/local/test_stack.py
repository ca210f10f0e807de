"""The real parts: they serve what the service needs, side by side, and over a crash."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from typer.testing import CliRunner

from ingest.local import docker, jars, keep
from ingest.local.commands import app
from ingest.local.kafka import MESSAGE_MAX_BYTES, serves
from ingest.local.postgres import answers, query
from ingest.local.stack import Stack, running_stack

LARGE = b"x" * 8_000_000


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Iterator[Stack]:
    with running_stack(tmp_path_factory.mktemp("first"), say=said.append, environ={}) as running:
        yield running


def kafka_answers(bootstrap_servers: str) -> bool:
    host, port = bootstrap_servers.split(":")
    return serves(host, int(port))


async def produce(stack: Stack, topic: str, *values: bytes) -> None:
    async with (
        AIOKafkaProducer(
            bootstrap_servers=stack.kafka, transactional_id="test", max_request_size=MESSAGE_MAX_BYTES
        ) as producer,
        producer.transaction(),
    ):
        for value in values:
            await producer.send(topic, value)


async def consume(stack: Stack, topic: str, count: int) -> list[bytes | None]:
    async with AIOKafkaConsumer(
        topic,
        bootstrap_servers=stack.kafka,
        group_id=f"group of {topic}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=MESSAGE_MAX_BYTES,
    ) as consumer:
        return [(await consumer.getone()).value for _ in range(count)]


async def create(stack: Stack, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()


def test_which_provider_serves_is_said(stack: Stack, said: list[str]) -> None:
    assert stack.kafka_served_by == f"wheels: Kafka {jars.KAFKA_VERSION} on Java {jars.java_version()}"
    assert stack.database_served_by == "wheels: PostgreSQL 18 with pgvector"
    for served_by in (stack.kafka_served_by, stack.database_served_by):
        assert any("answers" in line and served_by in line for line in said)
    assert not any("Docker" in line for line in said)  # nothing is said of an engine that isn't there
    password = stack.database_url.split(":")[2].partition("@")[0]
    assert not any(password in text for text in (*said, repr(stack)))


async def test_broker_takes_transactions_groups_and_large_messages(stack: Stack) -> None:
    await create(stack, "large")
    await produce(stack, "large", b"small", LARGE)
    assert await consume(stack, "large", 2) == [b"small", LARGE]


async def test_database_takes_vectors_and_new_databases(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute("CREATE DATABASE another")
        await connection.execute("CREATE EXTENSION vector")
        assert await connection.fetchval("SELECT '[1,2]'::vector <-> '[1,3]'") == 1.0
        assert await connection.fetchval("SHOW max_connections") == "200"
        assert await connection.fetchval("SHOW listen_addresses") == "127.0.0.1"
    finally:
        await connection.close()


def test_the_database_wants_its_password(stack: Stack) -> None:
    """Any user of the machine reaches 127.0.0.1, and a superuser of PostgreSQL can run programs."""
    wrong = stack.database_url.replace("://loom:", "://loom:not")
    with pytest.raises(asyncpg.InvalidPasswordError):
        query(wrong, "SELECT 1")


async def test_address_and_data_outlast_a_crash(stack: Stack) -> None:
    await create(stack, "kept")
    await produce(stack, "kept", b"before")
    query(stack.database_url, "CREATE TABLE kept AS SELECT 42 AS answer")
    for server in (stack.kafka_server, stack.database_server):
        assert server is not None
        server.kill()
        assert not server.alive()
    assert not kafka_answers(stack.kafka)
    assert not answers(stack.database_url)
    for server in (stack.kafka_server, stack.database_server):
        assert server is not None
        server.start()
    assert await consume(stack, "kept", 1) == [b"before"]
    assert query(stack.database_url, "SELECT answer FROM kept")[0]["answer"] == 42


async def test_second_stack_does_not_disturb_the_first(stack: Stack, tmp_path: Path) -> None:
    await create(stack, "mine")
    await produce(stack, "mine", b"first")
    with running_stack(tmp_path, say=lambda _: None, environ={}) as second:
        assert second.kafka != stack.kafka
        await create(second, "mine")
        await produce(second, "mine", b"second")
        assert await consume(second, "mine", 1) == [b"second"]
        assert answers(second.database_url)
    assert not kafka_answers(second.kafka)
    assert await consume(stack, "mine", 1) == [b"first"]
    assert answers(stack.database_url)


def test_what_the_environment_gives_comes_first(stack: Stack, tmp_path: Path) -> None:
    given = {**stack.environment(), "LOOM_DATABASE_URL": stack.database_url.replace("://", "+asyncpg://")}
    with running_stack(tmp_path, say=lambda _: None, environ=given) as second:
        assert (second.kafka, second.database_url) == (stack.kafka, stack.database_url)
        assert (second.kafka_served_by, second.database_served_by) == ("environment", "environment")
        assert second.kafka_server is second.database_server is None
    assert kafka_answers(stack.kafka)
    assert answers(stack.database_url)


def test_no_docker_engine_costs_no_time_and_no_words(capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    assert not docker.engine_answers()
    assert time.monotonic() - started < 2
    assert capfd.readouterr() == ("", "")


def test_stack_env_exports_what_the_service_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    directory = keep.default_directory()
    command = CliRunner()

    none_up = command.invoke(app, ["env"])
    assert (none_up.exit_code, none_up.stdout) == (2, "")
    assert none_up.stderr == f"Stack: none is up in {directory}; start one with `ingest stack up`\n"
    assert command.invoke(app, ["down"]).exit_code == 0

    try:
        assert command.invoke(app, ["up"]).exit_code == 0
        exported = command.invoke(app, ["env"])
        assert exported.exit_code == 0
        assert exported.stderr == ""
        shell = subprocess.run(
            ["sh", "-c", 'eval "$1"; echo "$LOOM_KAFKA_BOOTSTRAP_SERVERS $LOOM_DATABASE_URL"',
             "sh", exported.stdout],
            capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]},
        )  # fmt: skip
        kafka, url = shell.stdout.split()
        assert kafka_answers(kafka)
        assert answers(url)
        again = command.invoke(app, ["up"])
        assert "already up" in again.stderr
        assert command.invoke(app, ["env"]).stdout == exported.stdout
    finally:
        gone = command.invoke(app, ["down"])
    assert gone.exit_code == 0
    assert not answers(url)
    assert not directory.exists()
    assert command.invoke(app, ["env"]).exit_code == 2
