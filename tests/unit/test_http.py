"""The three pages, from a real server on a free port."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from ingest.errors import SettingsError
from ingest.http import Health, HttpServer
from ingest.metrics import Metrics


class Served:
    """A server, and what its probes answer."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.live, self.ready = Health(True), Health(True)
        self.gate = Event()
        self.gate.set()
        self.server = HttpServer(
            "127.0.0.1",
            0,
            registry=self.metrics.registry,
            healthz=lambda: self.live,
            readyz=self._wait_and_answer,
        )

    def _wait_and_answer(self) -> Health:
        self.gate.wait(10)
        return self.ready

    def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type, body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}{path}", timeout=10) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers["Content-Type"], error.read().decode()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    served.server.start()
    yield served
    served.server.stop()


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readyz?verbose=1"])
def test_good_health_is_200(served: Served, path: str) -> None:
    status, kind, body = served.get(path)
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {"ok": True, "reasons": [], "degraded": {}}


def test_bad_health_is_503_with_its_reasons(served: Served) -> None:
    served.ready = Health(False, ["waiting for the database: größe"], {"a.b": "fuse open"})
    status, kind, body = served.get("/readyz")
    assert (status, kind) == (503, "application/json")
    assert json.loads(body) == {
        "ok": False,
        "reasons": ["waiting for the database: größe"],
        "degraded": {"a.b": "fuse open"},
    }
    assert served.get("/healthz")[0] == 200
    served.live = Health(False, ["stuck"])
    assert served.get("/healthz")[0] == 503


def test_topic_in_trouble_makes_no_pod_unready(served: Served) -> None:
    served.ready = Health(True, [], {"a.b": "lane stopped"})
    status, _, body = served.get("/readyz")
    assert (status, json.loads(body)["degraded"]) == (200, {"a.b": "lane stopped"})


def test_metrics_are_the_registrys(served: Served) -> None:
    served.metrics.read.labels("a.b").inc(3)
    status, kind, body = served.get("/metrics")
    assert status == 200 and kind.startswith("text/plain")
    assert 'ingest_messages_read_total{topic="a.b"} 3.0' in body.splitlines()


@pytest.mark.parametrize("path", ["/", "/metrics/", "/health", "/readyz/x", "/../etc/passwd"])
def test_any_other_page_is_404_and_names_the_three(served: Served, path: str) -> None:
    status, _, body = served.get(path)
    assert status == 404
    assert body == "/metrics, /healthz, /readyz\n"


def test_one_slow_answer_holds_up_no_other(served: Served) -> None:
    served.gate.clear()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(served.get, "/readyz")
        assert served.get("/healthz")[0] == 200
        assert not slow.done()
        served.gate.set()
        assert slow.result()[0] == 200


def test_nothing_is_logged_of_a_probe(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    served.get("/healthz")
    assert capsys.readouterr() == ("", "")


def test_port_that_is_taken_is_one_line_that_names_its_variable(served: Served) -> None:
    with pytest.raises(SettingsError, match="LOOM_HTTP_PORT") as caught:
        HttpServer(
            "127.0.0.1",
            served.server.port,
            registry=Metrics().registry,
            healthz=lambda: Health(True),
            readyz=lambda: Health(True),
        )
    assert str(served.server.port) in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_stopped_server_gives_its_port_back() -> None:
    served = Served()
    served.server.start()
    served.server.stop()
    with socket.create_server(("127.0.0.1", served.server.port), reuse_port=False):
        pass
