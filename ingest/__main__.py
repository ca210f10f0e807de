"""The console script ``ingest``, and ``python -m ingest``.

Importing the service takes a second. A Ctrl-C meanwhile, or in a command that handles none, ends in no traceback. A
SIGTERM meanwhile ends ``ingest run`` as asked, also as a container's first process, which has no default for it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

EXIT_INTERRUPTED = 130
"""What a shell reports for Ctrl-C."""


def main() -> None:
    """Runs the command line."""
    if sys.argv[1:2] == ["run"]:
        signal.signal(signal.SIGTERM, _not_begun)  # until the service has handlers of its own
    try:
        from ingest.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _not_begun(*_: Any) -> None:
    os._exit(0)  # nothing is open yet, and whatever is being imported must not catch this


if __name__ == "__main__":
    main()
