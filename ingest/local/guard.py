"""Stops a server when the process that owns it is gone, however it went.

Run as a file, with the server's process id, its creation time, the signal that asks it to stop, and the
seconds it has for that. The owner holds the other end of standard input: it writes ``done`` after a clean
stop; an end of file without it means the owner died. (The kernel's own way, PR_SET_PDEATHSIG, is Linux only
and fires when the *thread* that started the server ends.)
"""

from __future__ import annotations

import os
import signal
import sys

DONE = b"done"
SAME_PROCESS_S = 2.0
"""Creation times nearer than this are the same process: the kernel's clock may be set in between."""


def main() -> None:
    import psutil  # here, so that the module's constants can be had without the [local] extra

    pid, created, ask, grace_s = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
    if os.read(0, len(DONE)) == DONE:
        return
    try:
        server = psutil.Process(pid)
        if abs(server.create_time() - created) > SAME_PROCESS_S:
            return
        server.send_signal(ask)
        gone, _ = psutil.wait_procs([server], timeout=grace_s)
        if not gone:
            everything = [server, *server.children(recursive=True)]
            for process in everything:
                process.send_signal(signal.SIGKILL)
    except psutil.NoSuchProcess:
        return


if __name__ == "__main__":
    main()
