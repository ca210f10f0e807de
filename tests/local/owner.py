"""Owns a database until it is interrupted or killed. Run by test_owner.py as a process of its own.

The broker counts as given by the environment, which makes the start quick: both are guarded by the same code.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

from ingest.local.stack import KAFKA_VARIABLE, running_stack


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# Whoever starts the tests in the background may have SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

only_database = {KAFKA_VARIABLE: "unused:9092"}
try:
    with running_stack(Path(sys.argv[1]), say=lambda _: None, environ=only_database) as stack:
        assert stack.database_server is not None
        say(json.dumps({"pid": stack.database_server.pid}))
        signal.pause()
except KeyboardInterrupt:
    say("stopped")
