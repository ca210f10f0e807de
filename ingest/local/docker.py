"""The same two servers as containers, where a Docker engine answers: started through testcontainers.

A container has a name made from its stack's directory, a fixed port of the host, and so its address and its
data over a stop, a kill and the next start. What a killed owner left is removed by testcontainers' reaper, or
at the next run in the same directory by that name.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.local import jars, kafka, postgres, waiting
from ingest.local.errors import LocalStackError
from ingest.local.ports import LOOPBACK, free_port

KAFKA_IMAGE = f"apache/kafka:{jars.KAFKA_VERSION}"
DATABASE_IMAGE = "timescale/timescaledb-ha:pg18"

_ENGINE_DEADLINE_S = 2
_START_DEADLINE_S = 120.0
_STOP_GRACE_S = 15
_QUIET_LOGGERS = ("testcontainers", "docker", "urllib3")


class ImageUnavailable(LocalStackError):
    """The engine answers, but the image can't be pulled or run. Something else may serve."""


@dataclass(frozen=True)
class Contents:
    """What runs in a container."""

    image: str
    port: int
    """Inside the container; the same outside."""
    environment: Mapping[str, str]
    command: str | list[str] | None
    address: Callable[[str], str]
    """From the host's name to the address for clients."""
    answers: Callable[[str], bool]
    """From the host's name to whether it serves there."""


class DockerServer:
    """One container, with the same ways to start, stop, kill and remove it as the servers from wheels.

    Args:
        guarded: whether testcontainers' reaper removes it when this process ends.
    """

    def __init__(
        self,
        contents: Contents,
        *,
        name: str,
        say: Callable[[str], None],
        guarded: bool = True,
    ) -> None:
        self._contents = contents
        self._name = name
        self._say = say
        self._guarded = guarded
        self._host = LOOPBACK
        self._container: Any = None

    @property
    def served_by(self) -> str:
        """For people: what this is."""
        return f"docker: {self._contents.image}"

    @property
    def address(self) -> str:
        """Bootstrap servers or database URL. Known from the first start on."""
        return self._contents.address(self._host)

    @property
    def pid(self) -> int | None:
        """None: its process belongs to the engine."""
        return None

    def start(self) -> None:
        """Start it and wait until it serves; on the data of the last start, if there is any.

        Raises:
            ImageUnavailable: the image can't be pulled, or its container can't be made.
            LocalStackError: it runs but doesn't serve in time; quotes the end of its log.
        """
        if self._container is None:
            self._create()
        else:
            self._container.start()
        if not waiting.wait_for(self._answers_or_died, deadline_s=_START_DEADLINE_S, every_s=0.2):
            raise LocalStackError(
                f"docker: {self._contents.image} doesn't answer {_START_DEADLINE_S:.0f} s after its start. "
                f"{self._last_words()}"
            )

    def alive(self) -> bool:
        """Whether the container runs."""
        if self._container is None:
            return False
        self._container.reload()
        return bool(self._container.status == "running")

    def stop(self) -> None:
        """Stop it cleanly (SIGKILL after 15 s). Its data stays."""
        if self.alive():
            self._container.stop(timeout=_STOP_GRACE_S)

    def kill(self) -> None:
        """SIGKILL, as a crash would. Its data stays."""
        if self.alive():
            self._container.kill()
            self._container.wait()

    def remove(self) -> None:
        """Stop it and remove it with its data."""
        self.stop()
        remove_container(self._name)
        self._container = None

    def _create(self) -> None:
        from docker.errors import DockerException, NotFound
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer

        contents = self._contents
        try:
            remove_container(self._name)
            was_disabled = testcontainers_config.ryuk_disabled
            testcontainers_config.ryuk_disabled = was_disabled or not self._guarded
            try:
                wanted = DockerContainer(contents.image, name=self._name, env=dict(contents.environment))
                try:
                    wanted.get_docker_client().client.images.get(wanted.image)
                except NotFound:
                    self._say(f"Docker: pulling {wanted.image}")
                    wanted.get_docker_client().client.images.pull(wanted.image)
                if contents.command is not None:
                    wanted.with_command(contents.command)
                self._host = _reachable_host(wanted)
                # testcontainers' own method takes no address, and would open the port to the network.
                port: Any = (LOOPBACK, contents.port) if self._host == LOOPBACK else contents.port
                wanted.ports[str(contents.port)] = port
                wanted.start()
            finally:
                testcontainers_config.ryuk_disabled = was_disabled
        except (DockerException, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ImageUnavailable(f"Docker answers, but {contents.image} can't be had ({reason})") from error
        self._container = wanted.get_wrapped_container()

    def _answers_or_died(self) -> bool:
        if self._contents.answers(self._host):
            return True
        if not self.alive():
            raise ImageUnavailable(
                f"Docker answers, but {self._contents.image} ended while it started. {self._last_words()}"
            )
        return False

    def _last_words(self) -> str:
        log = self._container.logs(tail=6).decode(errors="replace")
        return "Its log ends: " + " | ".join(line.strip() for line in log.splitlines() if line.strip())


def engine_answers() -> bool:
    """Whether there is a Docker engine, asked for at most 2 s, and the packages to use it. Silent."""
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        from docker.errors import DockerException
        from testcontainers.core.docker_client import DockerClient
    except ModuleNotFoundError:
        return False
    try:
        return bool(DockerClient(timeout=_ENGINE_DEADLINE_S).client.ping())
    except (DockerException, OSError, ValueError):
        return False


def remove_container(name: str) -> None:
    """Remove the container of that name with its data, if there is one."""
    from docker.errors import NotFound
    from testcontainers.core.docker_client import DockerClient

    try:
        DockerClient().client.containers.get(name).remove(force=True, v=True)
    except NotFound:
        return


def container_name(kind: str, directory: Path) -> str:
    """The name of a stack's container: the same for the same directory, so that the next run finds it."""
    digest = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:12]
    return f"loom-ingest-{kind}-{digest}"


def kafka_container(directory: Path, *, say: Callable[[str], None], guarded: bool = True) -> DockerServer:
    """A broker of the official image."""
    port, controller_port = free_port(), 9093
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{LOOPBACK}:{controller_port}",
        "listeners": f"PLAINTEXT://0.0.0.0:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        **kafka.SERVER_SETTINGS,
    }
    contents = Contents(
        image=KAFKA_IMAGE,
        port=port,
        environment={f"KAFKA_{name.replace('.', '_').upper()}": str(value) for name, value in settings.items()},
        command=None,
        address=lambda host: f"{host}:{port}",
        answers=lambda host: kafka.serves(host, port),
    )
    return DockerServer(contents, name=container_name("kafka", directory), say=say, guarded=guarded)


def database_container(
    directory: Path,
    *,
    say: Callable[[str], None],
    settings: Mapping[str, str] | None = None,
    guarded: bool = True,
) -> DockerServer:
    """A PostgreSQL with TimescaleDB and pgvector, by the authors of TimescaleDB."""
    port, password = free_port(), secrets.token_urlsafe(24)
    all_settings = {"port": str(port), **postgres.SERVER_SETTINGS, **(settings or {})}

    def address(host: str) -> str:
        return f"postgresql://{postgres.USER}:{password}@{host}:{port}/{postgres.DATABASE}"

    contents = Contents(
        image=DATABASE_IMAGE,
        port=port,
        environment={
            "POSTGRES_USER": postgres.USER,
            "POSTGRES_PASSWORD": password,
            "POSTGRES_DB": postgres.DATABASE,
        },
        command=["postgres", *(part for pair in all_settings.items() for part in ("-c", "=".join(pair)))],
        address=address,
        answers=lambda host: postgres.answers(address(host)),
    )
    return DockerServer(contents, name=container_name("postgres", directory), say=say, guarded=guarded)


def _reachable_host(container: Any) -> str:
    """The engine's host as clients here reach it; 127.0.0.1 for an engine on this machine.

    Not the container's own address, which testcontainers prefers where it takes this machine for a container: there
    is none before the start, and the port is open on the engine's host.
    """
    host = str(container.get_docker_client().host())
    return LOOPBACK if host in ("localhost", LOOPBACK) else host
