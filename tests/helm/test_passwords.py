"""Any password works: what the chart renders is tried on a real PostgreSQL and a real Kafka."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from ingest.local.postgres import query
from ingest.local.stack import Stack
from tests.helm.chart import Object, Rendered, decoded, environment, render, secret_of
from tests.support.database import ROOT, with_database

SERVICE = "loom@tenant 1/é"
OWNER = "owner:%41"
PASSWORDS = {SERVICE: "d@ta/base:&%41$ (PATH) $(HOME) p\"a'#s?s\\é", OWNER: "%"}
CHAPTER = (ROOT / "docs" / "deployment" / "README.md").read_text()


@pytest.fixture
def administrator_url(stack: Stack, empty_database_url: str) -> str:
    return with_database(stack.database_url, urlsplit(empty_database_url).path.removeprefix("/"))


@pytest.fixture
def roles(administrator_url: str) -> Iterator[None]:
    """A role for the service and one that owns the tables, made as the deployment chapter says."""
    (statements,) = re.findall(r"```sql\n(.*?)```", CHAPTER, re.DOTALL)
    for given, role, password in (("loom_owner", OWNER, "one"), ("loom_service", SERVICE, "another")):
        statements = statements.replace(given, f'"{role}"')
        statements = statements.replace(f"'{password}'", f"'{PASSWORDS[role].replace(chr(39), chr(39) * 2)}'")
    query(administrator_url, "CREATE EXTENSION IF NOT EXISTS vector")
    for statement in statements.split(";\n")[:-1]:
        query(administrator_url, statement)
    yield
    for role in PASSWORDS:
        query(administrator_url, f'DROP OWNED BY "{role}" CASCADE')
        query(administrator_url, f'DROP ROLE "{role}"')


@pytest.fixture
def rendered(stack: Stack, empty_database_url: str, roles: None) -> Rendered:
    """The chart for the stack's servers and these roles."""
    server = urlsplit(empty_database_url)
    return render(
        {
            "kafka": {"bootstrapServers": stack.kafka},
            "database": {
                "host": server.hostname,
                "port": server.port,
                "name": server.path.removeprefix("/"),
                "user": SERVICE,
                "secret": {"create": True, "password": PASSWORDS[SERVICE]},
                "timescale": "auto",
            },
            "migration": {"user": OWNER, "secret": {"create": True, "password": PASSWORDS[OWNER]}},
        }
    )


def variables(rendered: Rendered, container: Object) -> dict[str, str]:
    """What the kubelet would give the container: values as they are, references from the rendered Secrets."""
    secrets = {each["metadata"]["name"]: decoded(each) for each in rendered.all("Secret")}

    def value(given: Any) -> str:
        if isinstance(given, str):
            return given
        name, key = secret_of(given)
        return secrets[name][key]

    return {name: value(given) for name, given in environment(container).items()}


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_any_password_migrates_and_connects(rendered: Rendered, administrator_url: str) -> None:
    (migration,) = rendered.job["spec"]["template"]["spec"]["containers"]
    done = run(variables(rendered, migration), *migration["command"])
    assert done.returncode == 0, done.stderr
    (tables,) = query(
        administrator_url,
        "SELECT array_agg(DISTINCT tableowner::text) AS owners, bool_and(has_table_privilege($1, "
        "format('%I.%I', schemaname, tablename), 'SELECT, INSERT, UPDATE, DELETE')) AS usable, "
        "has_schema_privilege($1, 'public', 'CREATE') AS creates FROM pg_tables WHERE schemaname = 'public'",
        SERVICE,
    )
    assert dict(tables) == {"owners": [OWNER], "usable": True, "creates": False}

    (check,) = rendered.test_pod["spec"]["containers"]
    checked = run(variables(rendered, check), "ingest", *check["args"])
    assert (checked.returncode, checked.stderr) == (0, "")
    assert "the live schema fit" in checked.stdout
    assert "the broker answers" in checked.stdout


def test_a_wrong_password_is_refused_and_not_printed(rendered: Rendered) -> None:
    (check,) = rendered.test_pod["spec"]["containers"]
    wrong = variables(rendered, check) | {"PGPASSWORD": "wr0ng"}
    refused = run(wrong, "ingest", *check["args"])
    assert refused.returncode == 4
    assert "password authentication failed" in refused.stderr
    assert "wr0ng" not in refused.stderr
