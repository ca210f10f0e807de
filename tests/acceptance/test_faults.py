"""The part of the fault matrix that runs with the tests: nothing lost, nothing twice, by each message's identity."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ingest.local.stack import Stack
from tests.acceptance.faults import catalogue
from tests.acceptance.faults.fault import FAULTS, Fault
from tests.acceptance.faults.stand import Stand
from tests.acceptance.faults.trial import run

assert catalogue.__all__  # importing it has registered all faults


@pytest.mark.parametrize("fault", [each for each in FAULTS.values() if each.ci], ids=lambda fault: fault.name)
async def test_a_fault_loses_nothing_and_writes_nothing_twice(
    fault: Fault, stack: Stack, template: str, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it when the test fails
    result = await run(fault, Stand(stack, template), seed, tmp_path)
    if result.not_here is not None:
        pytest.skip(result.not_here)
    assert (result.error, result.verdict.lost, result.verdict.twice, result.verdict.examples) == (None, 0, 0, [])
