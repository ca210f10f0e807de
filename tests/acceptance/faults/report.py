"""``docs/faults.md``: what a run of the matrix found."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import psutil

from tests.acceptance.faults.stand import Stand
from tests.acceptance.faults.trial import Result
from tests.acceptance.faults.world import PARTITIONS, SESSION_TIMEOUT_MS


@dataclass(frozen=True)
class Machine:
    cores: int
    memory_gib: float
    system: str
    broker: str
    database: str

    @classmethod
    def here(cls, stand: Stand) -> Machine:
        memory = psutil.virtual_memory().total / 2**30
        system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
        stack = stand.stack
        return cls(os.cpu_count() or 1, memory, system, stack.kafka_served_by, stack.database_served_by)


def page(results: Sequence[Result], machine: Machine, seed: int, at_once: int) -> str:
    """The page, in Markdown."""
    good = sum(result.good for result in results)
    messages = sum(result.verdict.messages for result in results)
    head = f"""<!-- Made by `make faults`. It is what one run found; don't change it by hand. -->

# Faults

What was broken, and what was lost or written twice by it: {len(results)} faults, {messages:,} messages. {good} of them
ended without loss, repetition or a broken promise. {datetime.now(UTC):%Y-%m-%d}, seed {seed}, {at_once} at a time.

- Machine: {machine.cores} cores, {machine.memory_gib:.0f} GiB, {machine.system}.
- Broker: {machine.broker}. Database: {machine.database}.

Each line is a run against real `ingest run` processes, a real broker and a real database server, with a TCP proxy
between them. Producers send all the time to four topics of {PARTITIONS} partitions: one whose table has no unique key,
one that fills two tables without a unique key, one where the first message of a key stays, one where the newest does.
Every message has an identity of its own, and what must become of it is kept.

- *lost*: in none of its tables, in one of two, a good message among the dead letters, a bad one not among them, or an
  older message where the newest must stand.
- *twice*: more than one row or dead letter, or both.
- *recovery*: seconds from the end of the fault until the ledger stands at the end of every partition; the messages that
  are sent meanwhile included. The session timeout is {SESSION_TIMEOUT_MS // 1000} s where nothing else is said.

Besides the counts, every line asserts: the ledger's account closes for each partition, and it passed over no offset but
those of transactions; no dead letter comes of an outage; `/healthz` is alive, and `/readyz` is ready in the end; the
log has one line a change of state and no traceback; SIGTERM ends every process with code 0.

`make faults` runs all of it and writes this page; the faults marked CI run with the tests, too.

| fault | what was done | messages | lost | twice | recovery s | notes |
|---|---|---:|---:|---:|---:|---|
"""
    return head + "".join(map(_line, results))


def _line(result: Result) -> str:
    fault, verdict = result.fault, result.verdict
    name = f"`{fault.name}`" + (" (CI)" if fault.ci else "")
    done = fault.done.replace("|", "\\|")
    if result.not_here is not None:
        return f"| {name} | {done} | – | – | – | – | not run: {result.not_here} |\n"
    notes = list(result.notes)
    if result.error is not None:
        notes.append("**failed**: " + " ".join(result.error.split())[:300].replace("|", "\\|"))
    elif not verdict.clean:
        notes.append("**failed**: " + "; ".join(verdict.examples)[:300].replace("|", "\\|"))
    if verdict.letters:
        notes.append(f"{verdict.letters:,} dead letters")
    if result.recovery_s is None:
        return f"| {name} | {done} | – | – | – | – | {'; '.join(notes)} |\n"
    return (
        f"| {name} | {done} | {verdict.messages:,} | {verdict.lost} | {verdict.twice} | {result.recovery_s:.1f} | "
        f"{'; '.join(notes)} |\n"
    )
