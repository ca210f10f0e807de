"""The console script ``ingest``, and ``python -m ingest``.

Importing the service takes a second. A Ctrl-C meanwhile, or in a command that handles none, ends in no traceback.
"""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130
"""What a shell reports for Ctrl-C."""


def main() -> None:
    """Runs the command line."""
    try:
        from ingest.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


if __name__ == "__main__":
    main()
