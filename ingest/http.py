"""``/metrics``, ``/healthz`` and ``/readyz``, served from a thread of their own.

The thread answers also when the event loop is blocked: that is what ``/healthz`` has to tell.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from ingest.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Health:
    """An answer to a probe: good or not, and why."""

    ok: bool
    reasons: list[str] = field(default_factory=list)
    degraded: dict[str, str] = field(default_factory=dict)
    """Topics in trouble while the others go on: they make no pod unready."""


class HttpServer:
    """The three pages. The probes' functions are called in the server's thread: they only read."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        healthz: Callable[[], Health],
        readyz: Callable[[], Health],
    ) -> None:
        metrics = make_wsgi_app(registry)
        probes = {"/healthz": healthz, "/readyz": readyz}

        def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics":
                page: Iterable[bytes] = metrics(environ, start_response)
                return page
            if path not in probes:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"/metrics, /healthz, /readyz\n"]
            health = probes[path]()
            start_response("200 OK" if health.ok else "503 Service Unavailable", [("Content-Type", "application/json")])
            body = {"ok": health.ok, "reasons": health.reasons, "degraded": health.degraded}
            return [json.dumps(body).encode() + b"\n"]

        try:
            self._server = make_server(host, port, application, _Server, _QuietHandler)
        except OSError as error:
            raise SettingsError(
                f"LOOM_HTTP_PORT: can't listen on {host}:{port}: {error.strerror}; choose another, or 0 for a free one"
            ) from error
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def server_bind(self) -> None:
        # The library would look up the host's full name, which can take seconds where DNS is slow.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """A probe every few seconds is no news."""
