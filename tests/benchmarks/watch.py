"""What processes and the machine use, seen from outside: CPU seconds and resident memory."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

GONE = (psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError, ProcessLookupError)


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except GONE:
        return []


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds of processes and of all below them, those that have ended and were reaped included."""
    total = 0.0
    for pid in pids:
        for process in family(pid):
            with suppress(*GONE):
                times = process.cpu_times()
                total += times.user + times.system + times.children_user + times.children_system
    return total


def own_cpu_s(pid: int) -> float:
    """CPU seconds of one process alone."""
    with suppress(*GONE):
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)
    return 0.0


def peak_mib(pids: Iterable[int]) -> float:
    """The greatest resident memory of each process so far, added up; where the kernel doesn't say, that of now."""
    return sum(_peak(process) for pid in pids for process in family(pid))


def resident_mib(pids: Iterable[int]) -> float:
    total = 0.0
    for pid in pids:
        for process in family(pid):
            with suppress(*GONE):
                total += process.memory_info().rss / 2**20
    return total


def _peak(process: psutil.Process) -> float:
    with suppress(*GONE):
        status = Path(f"/proc/{process.pid}/status")
        if status.exists():
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
        return float(process.memory_info().rss / 2**20)
    return 0.0


def machine_busy_s() -> float:
    """CPU seconds that all cores have worked."""
    times = psutil.cpu_times()
    waiting = times.idle + getattr(times, "iowait", 0.0) + getattr(times, "guest", 0.0)
    return float(sum(times) - waiting)


@dataclass(frozen=True)
class Used:
    """CPU seconds between two looks."""

    client: float
    server: float
    """NaN where the database server's processes are not ours to see."""
    broker: float
    other: float
    """Of anybody else on the machine, the harness itself left out: a measurement wants none."""


class Meter:
    """Reads all meters at once; :meth:`since` tells what was used between two readings."""

    def __init__(self, client: Iterable[int], server: int | None, broker: int | None, own_backend: int | None) -> None:
        self._client = list(client)
        self._server = server
        self._broker = broker
        self._own_backend = own_backend

    def read(self) -> tuple[float, ...]:
        own = psutil.Process().cpu_times()
        backend = 0.0 if self._own_backend is None else own_cpu_s(self._own_backend)
        return (
            cpu_s(self._client),
            float("nan") if self._server is None else cpu_s([self._server]) - backend,
            float("nan") if self._broker is None else cpu_s([self._broker]),
            own.user + own.system + backend,
            machine_busy_s(),
        )

    def since(self, begin: tuple[float, ...]) -> Used:
        client, server, broker, own, busy = (now - then for now, then in zip(self.read(), begin, strict=True))
        known = sum(each for each in (client, server, broker, own) if each == each)
        return Used(client, server, broker, max(0.0, busy - known))
