"""What a person gets who types something wrong: one line that says what, where and what to do; never a traceback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ingest.local.stack import Stack
from tests.support.database import ROOT, alembic
from tests.support.service import Service, service_environment
from tests.support.topics import create_test_tables


@pytest.fixture
def environment(stack: Stack, database_url: str, suffix: str) -> dict[str, str]:
    return service_environment(stack, database_url, suffix)


def ingest(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "ingest", *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({"LOOM_KAFKA_BOOTSTRAP_SERVERS": ""}, 2, "LOOM_KAFKA_BOOTSTRAP_SERVERS is required and not set"),
        ({"LOOM_DATABASE_URL": ""}, 2, "LOOM_DATABASE_URL is required and not set"),
        ({"LOOM_DATABASE_URL": "mysql://user:secret@db/x"}, 2, "LOOM_DATABASE_URL must begin with postgresql://"),
        ({"LOOM_KAFKA_BATCH_SIZE": "many"}, 2, "LOOM_KAFKA_BATCH_SIZE Input should be a valid integer"),
        ({"LOOM_DB_MAX_POOL_SIZE": "1"}, 2, "LOOM_DB_MIN_POOL_SIZE is greater than LOOM_DB_MAX_POOL_SIZE"),
        ({"LOOM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, 2, "needs LOOM_KAFKA_SASL_USERNAME"),
        (
            {"LOOM_KAFKA_SECURITY_PROTOCOL": "SSL", "LOOM_KAFKA_SSL_CA_FILE": "/nowhere.pem"},
            2,
            "LOOM_KAFKA_SSL_*: can't use /nowhere.pem",
        ),
        ({"LOOM_TOPICS": "no.such.module"}, 2, "LOOM_TOPICS: can't load no.such.module"),
        ({"LOOM_TOPICS": "json"}, 2, "LOOM_TOPICS: json holds no topic"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_a_wrong_setting_ends_at_once_with_its_name(
    environment: dict[str, str], change: dict[str, str], code: int, said: str
) -> None:
    result = ingest(environment | change, "run")
    assert result.returncode == code
    last = result.stderr.strip().splitlines()[-1]
    assert said in last
    assert "secret" not in result.stderr


def test_a_missing_schema_ends_with_the_command_that_makes_it(
    environment: dict[str, str], empty_database_url: str
) -> None:
    for command in ("run", "check"):
        result = ingest(environment | {"LOOM_DATABASE_URL": empty_database_url}, command)
        assert result.returncode == 3
        assert "table ingest_offsets is missing" in result.stderr
        assert "alembic upgrade head" in result.stderr


def test_a_schema_that_comes_later_is_waited_for_where_that_is_asked(
    environment: dict[str, str], empty_database_url: str, tmp_path: Path
) -> None:
    environment |= {"LOOM_DATABASE_URL": empty_database_url}
    service = Service(environment, tmp_path / "log", options=("--wait-for-schema",)).start()
    try:
        said = service.wait_until_said("the schema is missing or too old; waiting until it fits")
        assert "table ingest_offsets is missing" in said["reason"]
        status, body = service.page("/readyz")
        assert (status, "waiting for the schema: " in body, "alembic upgrade head" in body) == (503, True, True)
        assert service.page("/healthz")[0] == 200  # waiting is no reason to start it anew
        alembic(empty_database_url, "upgrade", "head")
        create_test_tables(empty_database_url)
        service.wait_until_said("running")
        assert len(service.said("the schema is missing")) == 1
    finally:
        service.clean_up()


def test_refused_credentials_are_fatal_and_name_no_secret(environment: dict[str, str], database_url: str) -> None:
    wrong = database_url.replace("loom:", "loom:wr0ng", 1)
    result = ingest(environment | {"LOOM_DATABASE_URL": wrong}, "run")
    assert result.returncode == 4
    assert "password authentication failed" in result.stderr
    assert "wr0ng" not in result.stderr


def test_a_port_in_use_is_said(environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = ingest(environment | {"LOOM_HTTP_PORT": str(taken.getsockname()[1])}, "run")
    assert result.returncode == 2
    assert "LOOM_HTTP_PORT: can't listen on 127.0.0.1" in result.stderr


def test_an_unreachable_broker_is_said_once_and_waited_for(environment: dict[str, str], tmp_path: Path) -> None:
    service = Service(environment | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, tmp_path / "log").start()
    try:
        said = service.wait_until_said("no answer yet")
        assert (said["of"], "LOOM_KAFKA_BOOTSTRAP_SERVERS" in said["hint"]) == ("broker", True)
        assert service.page("/readyz")[0] == 503
        service.signal(signal.SIGTERM)
        assert service.process.wait(15) == 0
        assert len(service.said("no answer yet")) == 1
    finally:
        service.clean_up()


@pytest.mark.parametrize("module", ["structlog", "slow_topics"], ids=["its own modules", "the topics"])
def test_a_sigterm_while_modules_are_imported_ends_as_asked(
    environment: dict[str, str], tmp_path: Path, module: str
) -> None:
    """Also as a container's first process, where a signal without handler is ignored."""
    (tmp_path / f"{module}.py").write_text("print('importing', flush=True)\ninput()\n")
    path = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    process = subprocess.Popen(
        [sys.executable, "-m", "ingest", "run"],
        env=environment | {"PYTHONPATH": path, "LOOM_TOPICS": "slow_topics", "LOOM_TEST_SUFFIX": ""},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert any("importing" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, "Traceback" in errors) == (0, False)
    finally:
        process.kill()


def test_a_misspelt_setting_is_pointed_out(environment: dict[str, str], tmp_path: Path) -> None:
    service = Service(environment | {"LOOM_KAFKA_BATCHSIZE": "5"}, tmp_path / "log").start()
    try:
        service.wait_until_said("LOOM_KAFKA_BATCHSIZE is not a setting; did you mean LOOM_KAFKA_BATCH_SIZE?")
    finally:
        service.clean_up()


def test_check_says_that_all_fits(environment: dict[str, str]) -> None:
    result = ingest(environment, "check")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "5 topics: settings, contracts, tables and the live schema fit\n"


def test_check_asks_the_broker_where_that_is_asked(environment: dict[str, str]) -> None:
    result = ingest(environment, "check", "--broker")
    assert (result.returncode, result.stderr) == (0, "")
    said = result.stdout.splitlines()[-1]
    assert said.startswith("the broker answers, and has 0 of 5 topics; these are read when they appear: ")

    nobody = ingest(environment | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, "check", "--broker")
    assert nobody.returncode == 4
    assert "is LOOM_KAFKA_BOOTSTRAP_SERVERS right" in nobody.stderr
    assert len(nobody.stderr.splitlines()) == 1


def test_dead_letters_of_an_empty_table_are_none(environment: dict[str, str]) -> None:
    assert ingest(environment, "dead-letters", "list").stdout == "no dead letters\n"
    missing = ingest(environment, "dead-letters", "show", "7")
    assert (missing.returncode, "there is no dead letter 7" in missing.stderr) == (4, True)


def test_commands_need_no_broker(environment: dict[str, str]) -> None:
    del environment["LOOM_KAFKA_BOOTSTRAP_SERVERS"]
    assert ingest(environment, "dead-letters", "list").returncode == 0
    assert os.environ.get("LOOM_DATABASE_URL") is None
