"""P1 … P10 and the profile, each beside those that it shares trials with."""

from tests.benchmarks.measures import (
    backlog,
    growth,
    latency,
    memory,
    profile,
    refusals,
    scaling,
    start,
    throughput,
)

__all__ = ["backlog", "growth", "latency", "memory", "profile", "refusals", "scaling", "start", "throughput"]
