"""``scripts/fix-consumer-lag.sh`` tells of the migration while helm waits for it, and does not wait in vain."""

from __future__ import annotations

import re

import pytest

from tests.scripts.programs import Programs
from tests.scripts.test_fix import (
    DONE,
    GO,
    HELM_HERE,
    IMAGE,
    MIGRATION_PODS,
    ROLLED_BACK,
    SCRIPT,
    STOPPED,
    UPGRADE,
    changes,
    history,
    platform,
    run,
)
from tests.support.waiting import eventually

__all__ = ["platform"]

EARLIER = "kafka-to-db-consumer-migration-old|Succeeded||\n"
NEW = "kafka-to-db-consumer-migration-new"
STOPPED_BY_THE_SCRIPT = history((4, "deployed")), history((4, "deployed"), (5, "failed"))


def played_migration(programs: Programs, *pods: str, looks: int) -> None:
    """The first answer is from before the upgrade. helm ends when somebody has looked that often."""
    programs.on("kubectl", MIGRATION_PODS, *({"out": each} for each in pods), first=True)
    programs.on("helm", UPGRADE, {"until_called": ["component=migration", looks]}, first=True)
    programs.on("helm", f"{UPGRADE} --dry-run=server", first=True)


def told(out: str) -> list[str]:
    return re.findall(r"^  \d\d:\d\d:\d\d  migration: (.*)$", out, re.MULTILINE)


def test_each_change_of_the_migrations_pod_is_told_once(platform: Programs) -> None:
    platform.hurry(POLL_S="0.2")
    waits = f"{NEW}|Pending||0/1 nodes are available: 1 Insufficient cpu.\n"
    starts, runs = f"{NEW}|Pending|ContainerCreating|\n", f"{NEW}|Running||\n"
    played_migration(platform, EARLIER, EARLIER, waits, starts, runs, runs, runs, looks=7)
    done = run(platform)
    assert done.code == DONE, done.said
    assert told(done.out) == [
        f"{NEW} Pending: 0/1 nodes are available: 1 Insufficient cpu.",
        f"{NEW} Pending: ContainerCreating",
        f"{NEW} Running",
    ]


def test_a_migration_that_takes_its_time_is_told_again_and_again(platform: Programs) -> None:
    platform.hurry(POLL_S="0.2", TELL_S="1")
    played_migration(platform, "", f"{NEW}|Running||\n", looks=15)
    done = run(platform)
    assert done.code == DONE, done.said
    assert len(told(done.out)) >= 2
    assert set(told(done.out)) == {f"{NEW} Running"}


@pytest.mark.parametrize(
    "reason",
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "ErrImageNeverPull",
        "InvalidImageName",
        "ImageInspectError",
        "CreateContainerConfigError",
    ],
)
def test_a_migration_that_can_not_start_is_not_waited_for(reason: str, platform: Programs) -> None:
    """helm would wait for half an hour."""
    platform.hurry(POLL_S="0.2", STUCK_S="1")
    platform.on("kubectl", MIGRATION_PODS, {}, {"out": f"{NEW}|Pending|{reason}|not found\n"}, first=True)
    platform.on("helm", UPGRADE, {"hold": True}, first=True)
    platform.on("helm", f"{UPGRADE} --dry-run=server", first=True)
    platform.on("helm", ".* history .*", *STOPPED_BY_THE_SCRIPT, first=True)
    done = run(platform)
    assert done.code == ROLLED_BACK, done.said
    assert done.err.endswith(
        "helm upgrade was stopped, because the migration's pod can't start, for 1 s now: "
        f"{NEW} Pending: {reason}: not found. Rolled back: the pods of revision 4 run\n"
    )
    assert changes(platform)[-1] == f"{HELM_HERE} rollback kafka-to-db-consumer 4 --timeout 35m"


def test_a_registry_that_is_away_for_a_moment_stops_nothing(platform: Programs) -> None:
    platform.hurry(POLL_S="0.2")
    pulls = [f"{NEW}|Pending|{reason}|away\n" for reason in ("ErrImagePull", "ImagePullBackOff", "ErrImagePull")]
    played_migration(platform, "", *pulls, f"{NEW}|Running||\n", looks=6)
    done = run(platform)
    assert done.code == DONE, done.said
    assert [line.split(": ")[1] for line in told(done.out)[:3]] == ["ErrImagePull", "ImagePullBackOff", "ErrImagePull"]


def test_pods_of_earlier_migrations_say_nothing_of_this_one(platform: Programs) -> None:
    """One that could not start, and is about to be removed with its Job."""
    platform.hurry(POLL_S="0.2", STUCK_S="1")
    earlier = EARLIER.replace("Succeeded||", "Pending|ErrImagePull|not found")
    played_migration(platform, earlier, looks=15)
    done = run(platform)
    assert done.code == DONE, done.said
    assert told(done.out) == []


def test_where_the_earlier_pods_are_gone_and_there_is_none_yet_that_is_said(platform: Programs) -> None:
    platform.hurry(POLL_S="0.2", TELL_S="1")
    played_migration(platform, EARLIER, "", looks=15)
    done = run(platform)
    assert done.code == DONE, done.said
    assert set(told(done.out)) == {"no pod yet"}


async def test_who_is_told_to_end_leaves_nobody_who_goes_on_looking(platform: Programs) -> None:
    """Whoever did would stumble over the notes that are gone, and say so."""
    platform.hurry(POLL_S="0.2")
    played_migration(platform, "", looks=5)
    process = platform.start(SCRIPT, *GO, **IMAGE)

    async def looked() -> bool:
        return sum("component=migration" in call for call in platform.calls("kubectl")) > 1

    await eventually(looked)
    process.terminate()  # the script alone, which ends when helm has
    out, err = process.communicate(timeout=30)
    assert process.returncode == STOPPED, out + err
    assert re.fullmatch(r"\nfix-consumer-lag.sh: stopped while helm was at work\. .*\n", err), err
