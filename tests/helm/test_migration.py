"""The schema moves before the pods do: one Job, which sees its own copy of what the release brings."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.migrate import DATABASE_WAIT_S, LOCK_WAIT_S
from tests.helm.chart import CI_FILES, NAME, Object, Rendered, ci, decoded, environment, render, secret_of, values_of

HOOKS = "helm.sh/hook"


def annotations(each: Object) -> dict[str, str]:
    found: dict[str, str] = each["metadata"].get("annotations", {})
    return found


def hooks(rendered: Rendered) -> list[Object]:
    """What Helm makes before the release at install and upgrade, in its order."""
    found = [each for _, each in rendered.objects if annotations(each).get(HOOKS) == "pre-install,pre-upgrade"]
    return sorted(found, key=lambda each: int(annotations(each)["helm.sh/hook-weight"]))


def referenced(spec: Object) -> set[tuple[str, str]]:
    """Kind and name of everything in its namespace that a pod can't start without."""
    (container,) = spec["containers"]
    found = {("ServiceAccount", spec["serviceAccountName"])}
    found |= {("Secret", volume["secret"]["secretName"]) for volume in spec["volumes"] if "secret" in volume}
    found |= {
        ("Secret", value["secretKeyRef"]["name"])
        for value in environment(container).values()
        if not isinstance(value, str) and "secretKeyRef" in value
    }
    return found


def name_of(each: Object) -> tuple[str, str]:
    return each["kind"], each["metadata"]["name"]


def test_runs_before_the_pods_at_install_and_upgrade() -> None:
    for upgrade in (False, True):
        job = render(upgrade=upgrade).job
        assert annotations(job)[HOOKS] == "pre-install,pre-upgrade"
        (container,) = job["spec"]["template"]["spec"]["containers"]
        assert (container["command"], container.get("args")) == (["alembic", "upgrade", "head"], None)
        assert container["image"] == render().consumer["image"]


@pytest.mark.parametrize("upgrade", [False, True], ids=["install", "upgrade"])
@pytest.mark.parametrize("path", CI_FILES, ids=[path.stem for path in CI_FILES])
def test_sees_only_what_exists_before_the_release(path: Any, upgrade: bool) -> None:
    rendered = render(values_of(path), upgrade=upgrade)
    before = hooks(rendered)
    if not before:
        assert values_of(path)["migration"]["enabled"] is False
        return
    *earlier, job = before
    assert job["kind"] == "Job"
    assert all(int(annotations(each)["helm.sh/hook-weight"]) < 0 for each in earlier)
    made_by_hooks = {name_of(each) for each in earlier}
    made_by_release = {name_of(each) for _, each in rendered.objects} - {name_of(each) for each in before}
    needed = referenced(job["spec"]["template"]["spec"])
    assert not needed & made_by_release
    outside = needed - made_by_hooks
    # What is left exists before: Secrets that the values name.
    assert {kind for kind, _ in outside} <= {"Secret"}
    assert all(name in path.read_text() or name == "timescaledb-credentials" for _, name in outside)


def test_has_its_own_copy_of_a_created_secret() -> None:
    rendered = render({"database": {"secret": {"create": True, "password": "p@ss"}}})
    copy, own = rendered.one("Secret", "migration"), rendered.one("Secret")
    assert decoded(copy) == decoded(own) == {"password": "p@ss"}
    assert (copy["metadata"]["name"], own["metadata"]["name"]) == (f"{NAME}-migration", f"{NAME}-database")
    (container,) = rendered.job["spec"]["template"]["spec"]["containers"]
    assert secret_of(environment(container)["PGPASSWORD"]) == (f"{NAME}-migration", "password")
    assert secret_of(environment(rendered.consumer)["PGPASSWORD"]) == (f"{NAME}-database", "password")


def test_what_the_pods_need_stays_while_they_may_go_on() -> None:
    secret = {"create": True, "password": "p@ss"}
    rendered = render({"database": {"secret": secret}, "networkPolicy": {"enabled": True}})
    before = hooks(rendered)
    assert {each["kind"] for each in before} == {"Job", "NetworkPolicy", "Secret", "ServiceAccount"}
    # With hook-succeeded Helm deletes what was made before a Job that fails, or takes longer than Helm waits.
    assert {annotations(each)["helm.sh/hook-delete-policy"] for each in before} == {"before-hook-creation"}


def test_a_policy_that_stayed_holds_no_later_migration() -> None:
    stayed = ci("network-policy").one("NetworkPolicy", "migration")["spec"]["podSelector"]["matchLabels"]
    with_policy = ci("network-policy").job["spec"]["template"]["metadata"]["labels"]
    without = ci("default").job["spec"]["template"]["metadata"]["labels"]
    assert (stayed.items() <= with_policy.items(), stayed.items() <= without.items()) == (True, False)


def test_uses_existing_secrets_as_they_are() -> None:
    rendered = ci("existing-secrets")
    assert rendered.all("Secret") == []
    (container,) = rendered.job["spec"]["template"]["spec"]["containers"]
    variables = environment(container)
    assert variables["LOOM_DATABASE_URL"] == "postgresql://loom_service@timescaledb:5432/loom?sslmode=prefer"
    assert variables["LOOM_MIGRATION_DATABASE_URL"] == "postgresql://loom_owner@timescaledb:5432/loom?sslmode=prefer"
    assert secret_of(variables["PGPASSWORD"]) == ("loom-owner", "pgpassword")
    service = environment(rendered.consumer)
    assert secret_of(service["PGPASSWORD"]) == ("loom-service", "pgpassword")
    assert "LOOM_MIGRATION_DATABASE_URL" not in service  # its role needs no DDL, and has none


def test_another_role_may_own_the_tables() -> None:
    rendered = ci("created-secrets")
    assert decoded(rendered.one("Secret", "migration")) == {"password": "own@er/&%$"}
    (container,) = rendered.job["spec"]["template"]["spec"]["containers"]
    assert environment(container)["LOOM_MIGRATION_DATABASE_URL"].startswith("postgresql://loom_owner@timescaledb:5432/")


def test_never_two_at_once() -> None:
    spec = render().job["spec"]
    assert (spec["parallelism"], spec["completions"]) == (1, 1)
    assert spec["podReplacementPolicy"] == "Failed"  # the next attempt waits until the last one's pod has ended


def test_a_failure_stops_the_upgrade_and_its_log_stays() -> None:
    job = render().job
    assert annotations(job)["helm.sh/hook-delete-policy"] == "before-hook-creation"
    assert annotations(job)["helm.sh/hook-output-log-policy"] == "hook-failed"
    assert job["spec"]["ttlSecondsAfterFinished"] >= 24 * 3600
    assert job["spec"]["backoffLimit"] == 2
    assert job["spec"]["template"]["spec"]["restartPolicy"] == "Never"  # each attempt keeps its own pod and log


def test_has_time_to_wait_for_database_and_lock_at_every_attempt() -> None:
    spec = render().job["spec"]
    assert spec["activeDeadlineSeconds"] > (spec["backoffLimit"] + 1) * (DATABASE_WAIT_S + LOCK_WAIT_S)


def test_can_be_left_to_others() -> None:
    rendered = render({"migration": {"enabled": False}})
    assert hooks(rendered) == []
    assert "The chart does not migrate" in rendered.notes


def test_needs_nothing_of_kafka() -> None:
    for name in ("tls", "sasl-ssl", "keda"):
        spec = ci(name).job["spec"]["template"]["spec"]
        assert not [variable for variable in environment(spec["containers"][0]) if "KAFKA" in variable]
        assert not [volume for volume in spec["volumes"] if "kafka" in volume["name"]]


def test_runs_other_commands_for_packages_with_revisions_of_their_own() -> None:
    (container,) = ci("plain-postgresql").job["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "-c", "alembic upgrade head && alembic -c acme/alembic.ini upgrade head"]
    assert environment(container)["LOOM_TIMESCALE"] == "off"
