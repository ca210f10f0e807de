"""``make image-test``: finds an engine, or makes one, and runs the tests of this directory on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.image import box

TIMEOUT_S = 900
"""Of a test with its fixtures; the first one builds everything."""


def main() -> int:
    tests = [
        *(sys.executable, "-m", "pytest", str(Path(__file__).parent), f"--timeout={TIMEOUT_S}"),
        *("-o", f"faulthandler_timeout={TIMEOUT_S - 60}", *sys.argv[1:]),
    ]
    if box.engine_answers():
        box.say("Engine: the one that answers here")
        return subprocess.run(tests, check=False).returncode
    missing = [
        program
        for program in ("dockerd", "docker", "unshare", "setpriv", "iptables", "ip")
        if not shutil.which(program)
    ]
    if os.geteuid() != 0 or missing:
        box.say(
            "image-test: no Docker engine answers (DOCKER_HOST, or the default socket). Start one; or run this as root"
            + (f" with {', '.join(missing)} installed" if missing else "")
            + ": then it starts one of its own"
        )
        return 2
    box.say("Engine: none answers, so one is started for these tests")
    return box.run(tests)


if __name__ == "__main__":
    sys.exit(main())
