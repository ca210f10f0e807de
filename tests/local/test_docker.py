"""Docker is asked first where an engine answers; whatever it can't do, it doesn't stand in the way.

The engine here is played, as one that no image registry can be reached from: it answers, and has no images.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ingest.local import docker
from ingest.local.postgres import answers
from ingest.local.stack import KAFKA_VARIABLE, running_stack


class EngineWithoutImages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.endswith("/_ping"):
            self._reply(200, "OK")
        elif self.path.endswith("/version"):
            self._reply(200, {"ApiVersion": "1.50", "MinAPIVersion": "1.24", "Version": "28.2.2"})
        else:
            self._reply(404, {"message": "No such image or container"})

    def do_POST(self) -> None:
        self._reply(500, {"message": "Get https://registry-1.docker.io/v2/: dial tcp: no such host"})

    def do_DELETE(self) -> None:
        self._reply(404, {"message": "No such container"})

    def log_message(self, *_: object) -> None:
        """Nothing to tell."""

    def _reply(self, status: int, content: object) -> None:
        body = (content if isinstance(content, str) else json.dumps(content)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), EngineWithoutImages) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("DOCKER_HOST", f"tcp://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def test_an_image_that_cannot_be_pulled_is_said_and_the_wheels_serve(engine: None, tmp_path: Path) -> None:
    said: list[str] = []
    with running_stack(tmp_path, say=said.append, environ={KAFKA_VARIABLE: "unused:9092"}) as stack:
        assert stack.database_served_by == "wheels: PostgreSQL 18 with pgvector"
        assert answers(stack.database_url)
    assert f"Docker: pulling {docker.DATABASE_IMAGE}" in said
    assert any("no such host" in line and "wheels serve instead" in line for line in said)
    assert not any("\n" in line for line in said)


def test_the_same_directory_gives_the_same_container_name(tmp_path: Path) -> None:
    """So the next run finds, and removes, what a killed one left."""
    name = docker.container_name("kafka", tmp_path)
    assert name == docker.container_name("kafka", tmp_path / "." / "x" / "..")
    assert name != docker.container_name("kafka", tmp_path / "x")
