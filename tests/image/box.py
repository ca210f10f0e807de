"""A Docker engine for the time of one command, in process, mount and network namespaces of its own.

The machine keeps its mounts, firewall rules and bridges; the end of the box's first process, however it comes, is the
end of every container, mount, bridge and rule in it. Outside it there are, while it runs: one pair of network
interfaces with the rules that let it out, a cgroup, and a directory for the engine's data. :func:`run` removes them;
if it is killed by SIGKILL, the rules and the directory stay, and nothing runs.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from ingest.local.waiting import wait_for

SOCKET = Path("/run/docker.sock")
"""Inside: the box has a /run of its own."""
CGROUPS = Path("/sys/fs/cgroup")
START_DEADLINE_S = 60
STOP_DEADLINE_S = 30

_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_READY = b"ready\n"


def say(line: str) -> None:
    """Tells whoever started the tests, at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def engine_answers() -> bool:
    """Whether a Docker engine answers to the environment's ``docker``."""
    if not shutil.which("docker"):
        return False
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(asked, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def run(command: list[str]) -> int:
    """Runs ``command`` with an engine at ``DOCKER_HOST``; its exit code. Leaves nothing. Needs root."""
    name = f"loom-image-{os.getpid()}"
    with ExitStack() as everything:
        data = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        everything.callback(shutil.rmtree, data, ignore_errors=True)
        everything.callback(_remove_cgroups, name)
        # SIGTERM ends us as Ctrl-C does, by way of all that is below; SIGKILL takes at least the box along.
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        everything.callback(signal.signal, signal.SIGTERM, before)
        inside = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
                *(sys.executable, "-m", "tests.image.box", name, str(data), *command),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        everything.callback(_end, inside)
        assert inside.stdin is not None and inside.stdout is not None
        # It says that it is there, gets its network and is told so; from then on it writes to our output itself.
        if inside.stdout.readline() != _READY:
            return inside.wait() or 1
        address, gateway = everything.enter_context(_network(inside.pid))
        inside.stdin.write(f"{address} {gateway}\n".encode())
        inside.stdin.close()
        try:
            return inside.wait()
        except KeyboardInterrupt:
            with suppress(subprocess.TimeoutExpired):
                inside.wait(STOP_DEADLINE_S)  # the terminal has told it, too
            return 130


def _end(inside: subprocess.Popen[bytes]) -> None:
    inside.kill()  # and with it, by --kill-child, all that is in the box
    inside.wait()


@contextmanager
def _network(pid: int) -> Iterator[tuple[str, str]]:
    """A way out for the namespace of that process: yields its address and its gateway."""
    number = pid % 16_000
    base = f"10.213.{number // 64}.{number % 64 * 4}"
    outside, inner = (base.rsplit(".", 1)[0] + f".{number % 64 * 4 + last}" for last in (1, 2))
    interface = f"loom{number}"
    rules = [
        ["-t", "nat", "POSTROUTING", "-s", f"{inner}/32", "-j", "MASQUERADE"],
        ["-t", "filter", "FORWARD", "-i", interface, "-j", "ACCEPT"],
        ["-t", "filter", "FORWARD", "-o", interface, "-j", "ACCEPT"],
    ]
    forwarded = _FORWARDING.read_text()
    with ExitStack() as undo:
        _do("ip", "link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        undo.callback(_try, "ip", "link", "delete", interface)
        _do("ip", "address", "add", f"{outside}/30", "dev", interface)
        _do("ip", "link", "set", interface, "up")
        undo.callback(_FORWARDING.write_text, forwarded)
        _FORWARDING.write_text("1\n")
        for flag, table, chain, *rule in rules:
            _do("iptables", "--wait", flag, table, "-I", chain, *rule)
            undo.callback(_try, "iptables", "--wait", flag, table, "-D", chain, *rule)
        yield f"{inner}/30", outside


def _remove_cgroups(name: str) -> None:
    def empty() -> bool:
        for found in (*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")):
            for directory in sorted(found.rglob("*"), reverse=True):
                if directory.is_dir():
                    with suppress(OSError):  # its last process is being buried
                        directory.rmdir()
            with suppress(OSError):
                found.rmdir()
        return not (*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}"))

    wait_for(empty, deadline_s=5, every_s=0.1)


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"image-test: {' '.join(command)}: {done.stderr.strip()}")


def _try(*command: str) -> None:
    subprocess.run(command, capture_output=True, check=False)


def inside(name: str, data: Path, command: list[str]) -> int:
    """As the box's first process: mounts, network, engine, command, end of the engine."""
    output = os.dup(2)
    os.write(1, _READY)
    address, gateway = sys.stdin.readline().split()
    os.dup2(output, 1)
    # A /sys of this network, with the machine's cgroups; and a /run of its own.
    kept = data / "cgroup"
    kept.mkdir()
    _do("mount", "--rbind", str(CGROUPS), str(kept))
    _do("mount", "-t", "sysfs", "sysfs", "/sys")
    _do("mount", "--rbind", str(kept), str(CGROUPS))
    _do("mount", "-t", "tmpfs", "tmpfs", "/run")
    _do("ip", "link", "set", "lo", "up")
    _do("ip", "address", "add", address, "dev", "eth0")
    _do("ip", "link", "set", "eth0", "up")
    _do("ip", "route", "add", "default", "via", gateway)
    log, settings = data / "dockerd.log", data / "daemon.json"
    settings.write_text("{}")  # the machine's own are not asked
    engine = [
        *("dockerd", "--host", f"unix://{SOCKET}", "--data-root", str(data / "root"), "--exec-root", "/run/docker"),
        *("--pidfile", "/run/docker.pid", "--cgroup-parent", f"/{name}", "--config-file", str(settings)),
        *("--bip", "10.214.0.1/24", "--default-address-pool", "base=10.215.0.0/16,size=24"),
    ]
    os.environ["DOCKER_HOST"] = f"unix://{SOCKET}"
    with log.open("wb") as file:
        daemon = subprocess.Popen(engine, stdout=file, stderr=file, start_new_session=True)
    try:
        if not wait_for(lambda: daemon.poll() is not None or engine_answers(), deadline_s=START_DEADLINE_S):
            daemon.kill()
        if daemon.poll() is not None:
            say("\n  ".join(["image-test: dockerd does not start; its log ends:", *log.read_text().splitlines()[-8:]]))
            return 1
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL).returncode
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        daemon.terminate()
        with suppress(subprocess.TimeoutExpired):
            daemon.wait(STOP_DEADLINE_S)


if __name__ == "__main__":
    sys.exit(inside(sys.argv[1], Path(sys.argv[2]), sys.argv[3:]))
