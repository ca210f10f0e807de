"""The console script ``ingest``, and ``python -m ingest``.

Importing the service takes a second. A Ctrl-C meanwhile, or in a command that handles none, ends in no traceback.
SIGTERM ends every command, also as the first process of a container, for which the kernel has no default; an
``ingest run`` that has not begun ends as asked, with 0.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

EXIT_INTERRUPTED = 130
"""What a shell reports for Ctrl-C."""
EXIT_TERMINATED = 143
"""And for SIGTERM."""


def main() -> None:
    """Runs the command line."""
    # Until the service has handlers of its own.
    signal.signal(signal.SIGTERM, _not_begun if sys.argv[1:2] == ["run"] else _terminated)
    try:
        from ingest.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _not_begun(*_: Any) -> None:
    os._exit(0)  # nothing is open yet, and whatever is being imported must not catch this


def _terminated(*_: Any) -> None:
    sys.exit(EXIT_TERMINATED)


if __name__ == "__main__":
    main()
