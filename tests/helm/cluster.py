"""A stand-in for a cluster's API server: answers Helm's ``lookup``, and nothing else. No Kubernetes."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.helm.chart import NAMESPACE, Object


def resources(group_version: str, **kinds: str) -> Object:
    """What a group of the API has: names of resources, and their kinds."""
    return {
        "kind": "APIResourceList",
        "groupVersion": group_version,
        "resources": [
            {"name": name, "singularName": "", "namespaced": True, "kind": kind, "verbs": ["get", "list"]}
            for name, kind in kinds.items()
        ],
    }


@contextmanager
def api_server(secrets: dict[str, Object], autoscalers: dict[str, int] | None = None) -> Iterator[str]:
    """Serves a namespace with these Secrets (name → data and metadata) and HorizontalPodAutoscalers (name → the pods
    that there are); yields its address."""
    root = f"/api/v1/namespaces/{NAMESPACE}"
    autoscaling = "/apis/autoscaling/v2"
    pages: dict[str, Any] = {
        "/version": {"major": "1", "minor": "34", "gitVersion": "v1.34.0"},
        "/api/v1": resources("v1", serviceaccounts="ServiceAccount", secrets="Secret"),
        autoscaling: resources("autoscaling/v2", horizontalpodautoscalers="HorizontalPodAutoscaler"),
        f"{root}/serviceaccounts/default": {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": NAMESPACE},
        },
    }
    for name, secret in secrets.items():
        metadata = {"name": name, "namespace": NAMESPACE, "resourceVersion": secret.get("resourceVersion", "1")}
        pages[f"{root}/secrets/{name}"] = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": metadata,
            "data": dict.fromkeys(secret["keys"], "eA=="),
        }

    for name, pods in (autoscalers or {}).items():
        pages[f"{autoscaling}/namespaces/{NAMESPACE}/horizontalpodautoscalers/{name}"] = {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"minReplicas": 3},
            "status": {"currentReplicas": pods},
        }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = pages.get(self.path.split("?")[0])
            body = found or {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404}
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
