"""The console script ``ingest``, and ``python -m ingest``.

Importing takes a second, so ``ingest run`` imports the service alone, and none of the other commands with what they
need. A Ctrl-C meanwhile, or in a command that handles none, ends in no traceback.
SIGTERM ends every command, also as the first process of a container, for which the kernel has no default; an
``ingest run`` that has not begun ends as asked, with 0.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

WAIT_FOR_SCHEMA = "--wait-for-schema"
EXIT_INTERRUPTED = 130
"""What a shell reports for Ctrl-C."""
EXIT_TERMINATED = 143
"""And for SIGTERM."""


def main() -> None:
    """Runs the command line."""
    # Until the service has handlers of its own.
    signal.signal(signal.SIGTERM, _not_begun if sys.argv[1:2] == ["run"] else _terminated)
    try:
        if sys.argv[1:2] == ["run"] and set(sys.argv[2:]) <= {WAIT_FOR_SCHEMA}:
            _run(sys.argv[2:])
        else:
            from ingest.cli import main as command_line

            command_line()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _run(options: Sequence[str]) -> None:
    """What the command line does for ``run``, without it."""
    gc.disable()  # what is imported stays: looking for garbage in it would take a tenth of the time
    # structlog would import it, a tenth of a second and 5 MiB, for coloured tracebacks, which the service does not log.
    sys.modules["rich"] = None  # type: ignore[assignment] # Python's way to say: as if it were not installed
    from ingest.service import failures_as_one_line, run_service

    del sys.modules["rich"]
    gc.freeze()
    gc.enable()
    with failures_as_one_line():
        sys.exit(run_service(wait_for_schema=WAIT_FOR_SCHEMA in options))


def _not_begun(*_: Any) -> None:
    os._exit(0)  # nothing is open yet, and whatever is being imported must not catch this


def _terminated(*_: Any) -> None:
    sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
