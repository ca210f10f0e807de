"""One fault, from an empty world to its verdict."""

from __future__ import annotations

import asyncio
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.faults.fault import Fault, NotHereError
from tests.acceptance.faults.stand import Stand
from tests.acceptance.faults.verdict import Verdict
from tests.acceptance.faults.world import World, world
from tests.support.service import Service

MESSAGES_BEFORE = 400
"""Messages that must have ended before anything is broken."""
FAULT_WITHIN_S = 1_500


@dataclass
class Result:
    """A line of the report."""

    fault: Fault
    verdict: Verdict = field(default_factory=Verdict)
    recovery_s: float | None = None
    took_s: float = 0.0
    notes: list[str] = field(default_factory=list)
    error: str | None = None
    """Why the fault did not get to its verdict, or what does not hold besides the counts."""
    not_here: str | None = None
    """Why it can't be made on this machine."""

    @property
    def good(self) -> bool:
        return self.error is None and self.not_here is None and self.verdict.clean


async def run(fault: Fault, stand: Stand, seed: int, directory: Path) -> Result:
    """Runs the fault; never raises but for a cancellation. The services' logs stay in ``directory``."""
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    result, began = Result(fault), time.monotonic()
    try:
        async with asyncio.timeout(FAULT_WITHIN_S), world(stand, fault, seed, directory) as here:
            result.notes = here.notes
            await _run(here, result)
    except NotHereError as reason:
        result.not_here = str(reason)
    except (Exception, ExceptionGroup) as error:  # noqa: BLE001 - the others shall run
        result.error = f"{type(error).__name__}: {error}".strip()
    result.took_s = time.monotonic() - began
    return result


async def _run(here: World, result: Result) -> None:
    for _ in range(here.fault.services):
        here.start_service()
    here.traffic.start()
    await here.flows(MESSAGES_BEFORE)
    for service in here.services:
        await here.said(service, "partitions assigned")
    await here.fault.act(here)
    await here.settle()
    result.verdict, result.recovery_s = await here.verdict(), here.recovery_s
    assert here.fault.letters or not result.verdict.letters, f"{result.verdict.letters} dead letters of an outage"
    running = here.running
    assert running, "no service runs any more"
    for service in running:
        assert service.page("/healthz")[0] == 200
        await here.ready(service)
    for service in here.services:
        _log_is_calm(service)
    for service in running:
        service.signal(signal.SIGTERM)
    codes = [await asyncio.to_thread(service.process.wait, 60) for service in running]
    assert not any(codes), f"exit codes {codes} after SIGTERM"


def _log_is_calm(service: Service) -> None:
    """No traceback, and one line a change of a state, not one an attempt."""
    raw = [line["raw"] for line in service.log if "raw" in line]
    assert not raw, f"log lines that are no JSON: {raw[:5]}"
    for begins, ends in (("can't write", "writing again"), ("broker does not answer", "broker answers again")):
        open_for: dict[str, bool] = {}
        for line in service.log:
            topic = line.get("topic", "")
            if line["event"].startswith(begins):
                assert not open_for.get(topic), f"{begins!r} said twice of {topic}"
                open_for[topic] = True
            elif line["event"].startswith((ends, "lane stopped", "fuse opened", "lane paused")):
                open_for[topic] = False
