"""Free TCP ports on the loopback interface."""

from __future__ import annotations

import contextlib
import random
import socket

from ingest.local.errors import LocalStackError

LOOPBACK = "127.0.0.1"

_LOWEST = 10_000
_HIGHEST = 32_000
"""Below the range that Linux (from 32768) and macOS (from 49152) take outgoing connections' ports from.

A server that is down keeps its port for its next start. Inside that range another program's connection could
take it meanwhile, and a client that tries to reach the stopped server could even connect to itself.
"""

_random = random.SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on. Chosen at random, so two stacks don't choose alike."""
    for _ in range(100):
        port = _random.randint(_LOWEST, _HIGHEST)
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((LOOPBACK, port))
                return port
    raise LocalStackError(
        f"local stack: no free port of {LOOPBACK} found between {_LOWEST} and {_HIGHEST} in 100 tries; "
        "see what listens there with `ss -ltn`"
    )
