"""Debezium's JDBC sink under Kafka Connect, as a contender: the jars are had as the broker's are.

Its best of fourteen settings: two tasks, unnest inserts, upsert (``insert`` stops at a redelivered row), batches of
5,000, a heap of 3 GB with the parallel collector. Its topic holds the nested objects as JSON text: from objects it
fills jsonb columns with NULL, without an error.

To make its lock anew, after a change of :data:`JARS`: ``python -m tests.benchmarks.peers.debezium``.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from ingest.local.errors import LocalStackError
from ingest.local.jars import KAFKA_VERSION, JarSet, class_path, java_command, write_lock
from ingest.local.ports import LOOPBACK, free_port
from ingest.local.process import own_environment
from tests.benchmarks.bed import SESSION, Bed, Database, Load
from tests.benchmarks.contender import BY_ROWS, Start, UnavailableError

VERSION = "3.6.0.Final"
HIBERNATE = "7.2.19.Final"
"""Debezium names 7.2.6; the pool's jar of that version is not served, so all of Hibernate is this one."""

JARS = JarSet(
    name="Kafka Connect with Debezium",
    directory=f"debezium-{VERSION}",
    coordinates=(
        f"org.apache.kafka:connect-runtime:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-json:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-api:{KAFKA_VERSION}",
        f"org.apache.kafka:connect-transforms:{KAFKA_VERSION}",
        f"org.apache.kafka:kafka-clients:{KAFKA_VERSION}",
        f"io.debezium:debezium-connector-jdbc:{VERSION}",
        f"org.hibernate.orm:hibernate-agroal:{HIBERNATE}",
        f"org.hibernate.orm:hibernate-core:{HIBERNATE}",
        "org.postgresql:postgresql:42.7.7",
        "org.slf4j:slf4j-simple:1.7.36",
    ),
    lock=Path(__file__).with_name("debezium.lock"),
    download_mb=70,
    left_out=frozenset(
        {
            "org.hibernate:hibernate-agroal",  # only says that it has moved
            "com.mysql:mysql-connector-j",
            "org.mariadb.jdbc:mariadb-java-client",
            "com.microsoft.sqlserver:mssql-jdbc",
            "com.oracle.database.jdbc:ojdbc11",
        }
    ),
)

TASKS = 2
BATCH = 5_000
HEAP_MB = 3_072

_TEXTS = {"device_id": False, "message_id": False, "schema_version": True, "segment_id": False}
_KEY = "device_id,message_id,segment_id,timestamp"


@dataclass(frozen=True)
class Debezium:
    """One Connect worker with the sink."""

    name: str = "Debezium JDBC sink"
    counted_by: str = BY_ROWS

    def starts(self, bed: Bed, load: Load, database: Database, directory: Path) -> list[Start]:
        """Raises UnavailableError when its jars can't be had."""
        try:
            jars = class_path(JARS, say=bed.say)
        except LocalStackError as error:
            raise UnavailableError(str(error)) from error
        worker, sink = directory / "worker.properties", directory / "sink.properties"
        worker.write_text(_properties(worker_settings(bed.stack.kafka, directory)))
        sink.touch(mode=0o600)
        sink.write_text(_properties(sink_settings(load.topic, database.url)))
        command = java_command(
            "org.apache.kafka.connect.cli.ConnectStandalone", str(worker), str(sink), jars=jars, heap_mb=HEAP_MB,
            collector="Parallel", options=("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",),
        )  # fmt: skip
        return [Start(command, own_environment())]


def worker_settings(kafka: str, directory: Path) -> dict[str, Any]:
    return {
        "bootstrap.servers": kafka,
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "offset.storage.file.filename": directory / "offsets",
        "offset.flush.interval.ms": 5_000,
        "listeners": f"http://{LOOPBACK}:{free_port()}",
        "plugin.discovery": "service_load",
        "connector.client.config.override.policy": "All",
    }


def sink_settings(topic: str, database_url: str) -> dict[str, Any]:
    parts = urlsplit(database_url)
    options = quote(" ".join(f"-c {name}={value}" for name, value in SESSION.items()))
    return {
        "name": f"debezium-{secrets.token_hex(4)}",
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": TASKS,
        "topics": topic,
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "true",
        "value.converter.schema.content": json.dumps(schema()),
        "connection.url": f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}"
        f"?reWriteBatchedInserts=true&options={options}",
        "connection.username": parts.username,
        "connection.password": parts.password,
        "collection.name.format": "analysis_audio_emotion_scores_raw",
        "schema.evolution": "none",
        "insert.mode": "upsert",
        "dialect.postgres.unnest.insert.enabled": "true",
        "batch.size": BATCH,
        "primary.key.mode": "record_value",
        "primary.key.fields": _KEY,
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.max.poll.records": BATCH,
        "consumer.override.fetch.min.bytes": 1_000_000,
        "consumer.override.fetch.max.wait.ms": 100,
        "consumer.override.max.partition.fetch.bytes": 8_388_608,
    }


def schema() -> dict[str, Any]:
    """What Connect needs to know of a message: it infers nothing."""

    def each(name: str, kind: str, optional: bool, logical: str | None = None) -> dict[str, Any]:
        return {"field": name, "type": kind, "optional": optional} | ({"name": logical} if logical else {})

    return {
        "type": "struct",
        "optional": False,
        "fields": [
            *(each(name, "string", optional) for name, optional in _TEXTS.items()),
            each("timestamp", "string", False, "io.debezium.time.ZonedTimestamp"),
            each("predicted_emotion", "string", False),
            each("confidence_score", "float", False),
            *(each(name, "float", True) for name in ("valence_score", "arousal_score", "dominance_score")),
            *(
                each(name, "string", True, "io.debezium.data.Json")
                for name in ("emotion_probabilities", "audio_features")
            ),
            each("model_version", "string", True),
        ],
    }


def _properties(settings: dict[str, Any]) -> str:
    # Java reads a backslash in a value as an escape.
    return "".join(f"{name}={str(value).replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())


if __name__ == "__main__":
    write_lock(JARS)
