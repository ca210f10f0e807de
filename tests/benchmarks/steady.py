"""A load that keeps its pace, and how long its messages take until others can see their rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tests.benchmarks.bed import Sender
from tests.benchmarks.trial import TrialError
from tests.benchmarks.workloads import Templates

TICK_S = 0.01
"""Messages go to the broker so often. A message's time is that of its making: up to a tick counts as latency."""
END_DEADLINE_S = 120.0

LATENCIES = """
    SELECT percentile_disc(ARRAY[0.5, 0.9, 0.99, 0.999, 1]) WITHIN GROUP (
        ORDER BY extract(epoch FROM pg_xact_commit_timestamp(xmin) - "timestamp")
    )
    FROM analysis_audio_emotion_scores_raw
    WHERE "timestamp" >= $1
"""
"""Seconds from a message's making to the commit of the transaction that made its row."""


async def send_steadily(sends: Sender, topic: str, templates: Templates, rate: float, until: Callable[[], bool]) -> int:
    """Sends ``rate`` messages a second until ``until()``; returns how many. What is late is caught up with at once."""
    begun, sent = time.monotonic(), 0
    while not until():
        due = int((time.monotonic() - begun) * rate)
        for number in range(sent, due):
            await sends.send(topic, templates.make(number, datetime.now(UTC)))
        sent = max(sent, due)
        await sends.hand_over()
        await asyncio.sleep(max(0.0, begun + (sent + 1) / rate - time.monotonic(), TICK_S))
    await sends.flush()
    return sent


async def until_ended(connection: Any, query: str, messages: int) -> None:
    """Waits until so many messages have ended. Raises TrialError when the deadline passes."""
    deadline = time.monotonic() + END_DEADLINE_S
    while (found := int(await connection.fetchval(query))) < messages:
        if time.monotonic() > deadline:
            raise TrialError(f"{found:,} of {messages:,} messages ended within {END_DEADLINE_S:.0f} s")
        await asyncio.sleep(0.02)
