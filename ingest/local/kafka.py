"""A real Apache Kafka without Docker: one KRaft node, from the pinned jars and the Java of a wheel."""

from __future__ import annotations

import base64
import json
import secrets
import shutil
import signal
import socket
import struct
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from rich.console import Console

from ingest.local import jars
from ingest.local.errors import LocalStackError
from ingest.local.ports import LOOPBACK, free_port
from ingest.local.process import ServerProcess, own_environment

START_DEADLINE_S = 60.0
"""It answers within 4 s on two idle cores."""

MESSAGE_MAX_BYTES = 16 * 1024 * 1024
"""Room for the 3 MB texts that tests send, and for batches of them."""

_HEAP_MB = 512
_STOP = ((signal.SIGTERM, 15.0),)


class KafkaServer:
    """A broker on 127.0.0.1, all its files below ``directory``.

    It keeps its port and its data over :meth:`stop`, :meth:`kill` and :meth:`start`, also in another process;
    :meth:`remove` takes them away.

    Args:
        directory: its own; made if it isn't there.
        guarded: whether it ends with this process, however that ends.
    """

    def __init__(
        self,
        directory: Path,
        *,
        say: Callable[[str], None],
        console: Console | None = None,
        guarded: bool = True,
    ) -> None:
        self.directory = directory.resolve()
        self._say = say
        self._console = console
        self._settings = self.directory / "settings.json"
        self._properties = self.directory / "server.properties"
        self._process = ServerProcess("Kafka", self.directory, marker=str(self._properties), ask=_STOP, guarded=guarded)

    @property
    def served_by(self) -> str:
        """For people: what this is."""
        return f"wheels: Kafka {jars.KAFKA_VERSION} on Java {jars.java_version()}"

    @property
    def address(self) -> str:
        """Bootstrap servers, ``host:port``. Known from the first start on."""
        return f"{LOOPBACK}:{json.loads(self._settings.read_text())['port']}"

    @property
    def pid(self) -> int | None:
        """Process id, None while it doesn't run."""
        return self._process.pid

    def prepare(self, *options: str) -> list[Path]:
        """Stop it, and make its empty cluster if it has none: what :meth:`start` does first. Its ``server.properties``
        may be changed then. Returns Kafka's class path.

        Args:
            options: further ones of Kafka's own tool that makes the cluster: its users.

        Raises:
            LocalStackError: as :meth:`start` does.
        """
        class_path = jars.kafka_jars(say=self._say, console=self._console)
        self._process.stop()
        if not self._settings.exists():
            self._format(class_path, options)
        return class_path

    def start(self) -> None:
        """Start it and wait until it serves; on the data of the last start, if there is any.

        Raises:
            LocalStackError: it can't be had or started; says why, with the end of its log.
        """
        class_path = self.prepare()
        host, port = self.address.split(":")
        command = jars.java_command(
            "kafka.Kafka",
            str(self._properties),
            jars=class_path,
            heap_mb=_HEAP_MB,
            options=self._java_options(),
        )
        self._process.launch(command, environment=own_environment())
        self._process.wait_until(lambda: serves(host, int(port)), deadline_s=START_DEADLINE_S)

    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.alive()

    def stop(self) -> None:
        """Stop it cleanly (SIGKILL after 15 s). Its data stays."""
        self._process.stop()

    def kill(self) -> None:
        """SIGKILL, as a crash would. Its data stays."""
        self._process.kill()

    def remove(self) -> None:
        """Stop it and remove all its files."""
        self._process.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _format(self, class_path: list[Path], options: tuple[str, ...]) -> None:
        """Make an empty cluster of one node. Its ports are written down last: they say that all is there."""
        shutil.rmtree(self.directory, ignore_errors=True)
        (self.directory / "tmp").mkdir(parents=True)
        port, controller_port = free_port(), free_port()
        self._properties.write_text(_server_properties(self.directory / "data", port, controller_port))
        # A first byte of 0 keeps the id from starting with a hyphen, which Kafka doesn't allow.
        cluster_id = base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")
        command = jars.java_command(
            "kafka.tools.StorageTool", "format", "--cluster-id", cluster_id, "--config",
            str(self._properties), *options, jars=class_path, options=(*self._java_options(),
            "-XX:TieredStopAtLevel=1"),
        )  # fmt: skip
        try:
            # A Ctrl-C while a program is being started would leave one that nobody knows of. Threads hear no signals,
            # and leaving the block waits for this one.
            with ThreadPoolExecutor(max_workers=1) as thread:
                done = thread.submit(
                    subprocess.run,
                    command,
                    env=own_environment(),
                    capture_output=True,
                    text=True,
                    timeout=START_DEADLINE_S,
                    check=False,
                ).result()
        except (OSError, subprocess.TimeoutExpired) as error:
            raise LocalStackError(f"Kafka: {self.directory} can't be formatted ({error})") from error
        if done.returncode != 0:
            words = " | ".join((done.stdout + done.stderr).split("\n")[-6:])
            raise LocalStackError(f"Kafka: its storage in {self.directory} can't be formatted: {words}")
        self._settings.write_text(json.dumps({"port": port}))

    def _java_options(self) -> tuple[str, ...]:
        return (
            f"-Djava.io.tmpdir={self.directory / 'tmp'}",  # native libraries are unpacked there
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "--enable-native-access=ALL-UNNAMED",
        )


def serves(host: str, port: int, timeout_s: float = 2.0) -> bool:
    """Whether a broker there answers a Metadata request and counts itself in the cluster.

    A port that is open isn't enough: the broker opens it long before the controller lets it serve.
    """
    # Metadata, version 1: api key 3, correlation id 1, no client id, an empty list of topics.
    body = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with closing(socket.create_connection((host, port), timeout=timeout_s)) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            reply = b""
            while len(reply) < 12:  # length, correlation id, number of brokers
                received = connection.recv(4096)
                if not received:
                    return False
                reply += received
    except OSError:
        return False
    brokers: int = struct.unpack(">iii", reply[:12])[2]
    return brokers > 0


def _server_properties(data: Path, port: int, controller_port: int) -> str:
    settings: dict[str, object] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data).replace("\\", "\\\\"),
        **SERVER_SETTINGS,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


SERVER_SETTINGS: dict[str, object] = {
    "auto.create.topics.enable": "false",
    "message.max.bytes": MESSAGE_MAX_BYTES,
    "replica.fetch.max.bytes": MESSAGE_MAX_BYTES,
    "socket.request.max.bytes": 104857600,
    "log.retention.ms": -1,  # messages with old timestamps are wanted here
    # One node, so one copy; and few partitions, so that a first group or transaction is quick.
    "offsets.topic.replication.factor": 1,
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.replication.factor": 1,
    "transaction.state.log.min.isr": 1,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.replication.factor": 1,
    "share.coordinator.state.topic.min.isr": 1,
    "share.coordinator.state.topic.num.partitions": 1,
    # A group's first member doesn't wait for others, and tests may use short sessions.
    "group.initial.rebalance.delay.ms": 0,
    "group.min.session.timeout.ms": 1000,
    # A broker that was killed is let in again when its last session is over: 9 s by default.
    "broker.session.timeout.ms": 3000,
    "broker.heartbeat.interval.ms": 500,
    # Two cores and half a gigabyte.
    "num.network.threads": 2,
    "num.io.threads": 4,
    "background.threads": 2,
    "log.cleaner.dedupe.buffer.size": 16777216,
}
"""What a container's broker gets too."""
