"""Every setting has its documented default, every wrong value one line that names its variable, and no secret shows."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from ingest.errors import SettingsError
from ingest.settings import (
    SECTIONS,
    DatabaseSettings,
    ServiceSettings,
    load_section,
    load_settings,
    unknown_variables,
    variable_of,
)
from tests.support.tls import Authority

REQUIRED = {"LOOM_KAFKA_BOOTSTRAP_SERVERS": "one:9092,two:9092", "LOOM_DATABASE_URL": "postgresql://u:hunter2@h/db"}
DEFAULTS: dict[str, Any] = {
    # What the former system fixes.
    "LOOM_KAFKA_GROUP_ID": "kafka-to-db-consumer",
    "LOOM_KAFKA_BATCH_SIZE": 200,
    "LOOM_KAFKA_BATCH_TIMEOUT": 0.5,
    "LOOM_KAFKA_MAX_POLL_RECORDS": 500,
    "LOOM_KAFKA_FETCH_MAX_BYTES": 52428800,
    "LOOM_KAFKA_SESSION_TIMEOUT_MS": 60000,
    "LOOM_KAFKA_AUTO_OFFSET_RESET": "earliest",
    "LOOM_KAFKA_SECURITY_PROTOCOL": "PLAINTEXT",
    "LOOM_KAFKA_SASL_MECHANISM": "PLAIN",
    "LOOM_KAFKA_SASL_USERNAME": None,
    "LOOM_KAFKA_SASL_PASSWORD": None,
    "LOOM_KAFKA_SSL_CA_FILE": None,
    "LOOM_KAFKA_SSL_CERT_FILE": None,
    "LOOM_KAFKA_SSL_KEY_FILE": None,
    "LOOM_MIGRATION_DATABASE_URL": None,
    "LOOM_DB_MIN_POOL_SIZE": 20,
    "LOOM_DB_MAX_POOL_SIZE": 50,
    # This system's own.
    "LOOM_KAFKA_ON_MISSING_OFFSETS": "stop",
    "LOOM_TOPICS": ("ingest.topics",),
    "LOOM_MAX_CLOCK_SKEW": 86_400,
    "LOOM_OLDEST_TIMESTAMP": datetime(2000, 1, 1, tzinfo=UTC),
    "LOOM_KAFKA_MAX_PARTITION_FETCH_BYTES": 1_048_576,
    "LOOM_BATCH_MAX_MESSAGES": 10_000,
    "LOOM_BATCH_MAX_BYTES": 16_777_216,
    "LOOM_HTTP_HOST": "0.0.0.0",  # noqa: S104 - a pod's
    "LOOM_HTTP_PORT": 8080,
    "LOOM_MONITOR_EVERY": 10,
    "LOOM_SHUTDOWN_GRACE": 20,
    "LOOM_LOG_LEVEL": "info",
    "LOOM_LOG_FORMAT": "auto",
    "LOOM_TIMESCALE": "required",
}
WRONG = [
    ("LOOM_KAFKA_BATCH_SIZE", "0"),
    ("LOOM_KAFKA_BATCH_SIZE", "many"),
    ("LOOM_KAFKA_BATCH_SIZE", "1.5"),
    ("LOOM_KAFKA_BATCH_SIZE", "100001"),
    ("LOOM_KAFKA_BATCH_TIMEOUT", "0"),
    ("LOOM_KAFKA_BATCH_TIMEOUT", "nan"),
    ("LOOM_KAFKA_BATCH_TIMEOUT", "0,5"),
    ("LOOM_KAFKA_MAX_POLL_RECORDS", "-1"),
    ("LOOM_KAFKA_FETCH_MAX_BYTES", "50MB"),
    ("LOOM_KAFKA_MAX_PARTITION_FETCH_BYTES", "1"),
    ("LOOM_KAFKA_SESSION_TIMEOUT_MS", "10"),
    ("LOOM_KAFKA_AUTO_OFFSET_RESET", "none"),
    ("LOOM_KAFKA_ON_MISSING_OFFSETS", "latest"),
    ("LOOM_KAFKA_SECURITY_PROTOCOL", "TLS"),
    ("LOOM_KAFKA_SASL_MECHANISM", "GSSAPI"),
    ("LOOM_DATABASE_URL", "mysql://u:hunter2@h/db"),
    ("LOOM_DATABASE_URL", "u:hunter2@h/db"),
    ("LOOM_DATABASE_URL", "postgresql+psycopg://u:hunter2@h/db"),
    ("LOOM_DATABASE_URL", "postgresql://u:[hunter2]@h/db"),
    ("LOOM_DATABASE_URL", "postgresql://u:hunter2？@h/db"),
    ("LOOM_MIGRATION_DATABASE_URL", "hunter2"),
    ("LOOM_DB_MIN_POOL_SIZE", "0"),
    ("LOOM_DB_MIN_POOL_SIZE", "51"),
    ("LOOM_DB_MAX_POOL_SIZE", "19"),
    ("LOOM_DB_MAX_POOL_SIZE", "1001"),
    ("LOOM_TOPICS", " , "),
    ("LOOM_BATCH_MAX_MESSAGES", "0"),
    ("LOOM_BATCH_MAX_BYTES", "100"),
    ("LOOM_MAX_CLOCK_SKEW", "0"),
    ("LOOM_MAX_CLOCK_SKEW", "nan"),
    ("LOOM_MAX_CLOCK_SKEW", "1 day"),
    ("LOOM_OLDEST_TIMESTAMP", "2000-01-01T00:00:00"),
    ("LOOM_OLDEST_TIMESTAMP", "long ago"),
    ("LOOM_HTTP_PORT", "65536"),
    ("LOOM_HTTP_PORT", "http"),
    ("LOOM_MONITOR_EVERY", "0.9"),
    ("LOOM_MONITOR_EVERY", "61"),
    ("LOOM_SHUTDOWN_GRACE", "0"),
    ("LOOM_SHUTDOWN_GRACE", "nan"),
    ("LOOM_LOG_LEVEL", "trace"),
    ("LOOM_LOG_FORMAT", "xml"),
    ("LOOM_TIMESCALE", "maybe"),
]
FREE_TEXTS = {
    "LOOM_KAFKA_BOOTSTRAP_SERVERS",
    "LOOM_KAFKA_GROUP_ID",
    "LOOM_KAFKA_SASL_USERNAME",
    "LOOM_KAFKA_SASL_PASSWORD",
    "LOOM_KAFKA_SSL_CA_FILE",
    "LOOM_KAFKA_SSL_CERT_FILE",
    "LOOM_KAFKA_SSL_KEY_FILE",
    "LOOM_HTTP_HOST",
}
ALL = {variable_of(section, name): (section, name) for section in SECTIONS for name in section.model_fields}


@pytest.fixture(autouse=True)
def _required(_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)


def value_of(variable: str) -> Any:
    section, name = ALL[variable]
    return getattr(load_section(section), name)


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    text = str(caught.value)
    assert "\n" not in text
    assert "docs/settings.md" in text
    assert caught.value.exit_code == 2
    return text


@pytest.mark.parametrize(("variable", "default"), DEFAULTS.items())
def test_default_is_the_documented_one(variable: str, default: Any) -> None:
    assert value_of(variable) == default


@pytest.mark.parametrize("variable", REQUIRED)
def test_required_variable_that_is_missing_is_named(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(variable)
    assert f"{variable} is required and not set" in refusal()
    monkeypatch.setenv(variable, "")
    assert f"{variable} is required and not set" in refusal()


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_wrong_value_gives_one_line_that_names_its_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    text = refusal()
    assert variable in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LOOM_KAFKA_BATCH_SIZE", 1),
        ("LOOM_KAFKA_BATCH_TIMEOUT", 60),
        ("LOOM_KAFKA_MAX_POLL_RECORDS", 1),
        ("LOOM_KAFKA_FETCH_MAX_BYTES", 1024),
        ("LOOM_KAFKA_SESSION_TIMEOUT_MS", 1000),
        ("LOOM_DB_MIN_POOL_SIZE", 1),
        ("LOOM_DB_MIN_POOL_SIZE", 50),
        ("LOOM_DB_MAX_POOL_SIZE", 20),
        ("LOOM_DB_MAX_POOL_SIZE", 1000),
        ("LOOM_BATCH_MAX_MESSAGES", 1),
        ("LOOM_BATCH_MAX_BYTES", 1024),
        ("LOOM_HTTP_PORT", 0),
        ("LOOM_HTTP_PORT", 65535),
    ],
)
def test_value_at_the_edge_is_taken(variable: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, str(value))
    assert value_of(variable) == value


def test_every_variable_has_a_wrong_value_here() -> None:
    assert {variable for variable, _ in WRONG} | FREE_TEXTS == ALL.keys()


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_KAFKA_BATCH_SIZE", "many")
    monkeypatch.setenv("LOOM_HTTP_PORT", "-1")
    monkeypatch.delenv("LOOM_DATABASE_URL")
    text = refusal()
    for variable in ("LOOM_KAFKA_BATCH_SIZE", "LOOM_HTTP_PORT", "LOOM_DATABASE_URL"):
        assert variable in text


@pytest.mark.parametrize("variable", sorted(ALL.keys() - REQUIRED.keys()))
def test_empty_variable_is_as_good_as_none(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = value_of(variable)
    monkeypatch.setenv(variable, "")
    assert value_of(variable) == unset


@pytest.mark.parametrize("variable", ["URL", "url", "MIGRATION_URL", "DATABASE_URL", "TOPICS", "GROUP_ID"])
def test_variable_without_the_prefix_is_none_of_ours(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load_settings()
    monkeypatch.setenv(variable, "postgresql://other/db")
    assert load_settings() == before


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
@pytest.mark.parametrize("rest", ["u:hunter2@h/db?sslmode=verify-full", "u@one:5432,two:5433/db", "/db?host=/tmp"])
def test_database_url_is_taken_as_libpq_has_it(scheme: str, rest: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_DATABASE_URL", f"{scheme}://{rest}")
    assert load_section(DatabaseSettings).url.get_secret_value() == f"{scheme.removesuffix('+asyncpg')}://{rest}"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey"])
@pytest.mark.parametrize("variable", ["LOOM_DATABASE_URL", "LOOM_MIGRATION_DATABASE_URL"])
def test_a_certificate_of_the_database_that_is_missing_is_named_with_its_path(
    variable: str, name: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "no such.pem"
    monkeypatch.setenv(variable, f"postgresql://u:hunter2@h/db?sslmode={mode}&{name}={quote(str(path))}")
    text = refusal()
    assert f"{variable} {name}: can't use {path}: No such file or directory" in text
    assert "hunter2" not in text


def test_a_file_that_holds_no_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ca.crt"
    path.write_text("no certificate")
    monkeypatch.setenv("LOOM_DATABASE_URL", f"postgresql://u@h/db?sslmode=verify-full&sslrootcert={path}")
    assert f"sslrootcert: can't use {path}: " in refusal()


def test_a_key_of_another_certificate_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path, "ca")
    ours, other = authority.sign("ours"), authority.sign("other")
    url = f"postgresql://u:hunter2@h/db?sslmode=verify-full&sslcert={ours.certificate}&sslkey="
    for key in (other.key, ours.certificate):
        monkeypatch.setenv("LOOM_DATABASE_URL", f"{url}{key}")
        text = refusal()
        assert f"LOOM_DATABASE_URL sslcert, sslkey: can't use {ours.certificate} with {key}: " in text
        assert "hunter2" not in text
    monkeypatch.setenv("LOOM_DATABASE_URL", f"{url}{ours.key}")
    load_settings()


@pytest.mark.parametrize("mode", ["disable", "prefer"])
def test_a_certificate_that_the_mode_does_not_look_at_may_be_missing(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOOM_DATABASE_URL", f"postgresql://u@h/db?sslmode={mode}&sslrootcert=/nowhere.pem")
    load_settings()


def test_topics_are_split_at_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_TOPICS", " ingest.topics, acme.topics ,")
    assert load_section(ServiceSettings).topics == ("ingest.topics", "acme.topics")


def test_secrets_show_in_no_text_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("LOOM_MIGRATION_DATABASE_URL", "postgresql://owner:hunter2@h/db")
    settings = load_settings()
    sections: list[BaseSettings] = [settings.kafka, settings.database, settings.service]
    texts = [repr(settings), str(settings)]
    texts += [
        text for each in sections for text in (repr(each), str(each), str(each.model_dump()), each.model_dump_json())
    ]
    assert not any("hunter2" in text for text in texts)
    assert isinstance(settings.database.url, SecretStr)


@pytest.mark.parametrize(
    ("variable", "suggested"),
    [
        ("LOOM_KAFKA_BATCHSIZE", "LOOM_KAFKA_BATCH_SIZE"),
        ("LOOM_KAFKA_BOOTSTRAP_SERVER", "LOOM_KAFKA_BOOTSTRAP_SERVERS"),
        ("LOOM_DATABSE_URL", "LOOM_DATABASE_URL"),
        ("LOOM_TOPIC", "LOOM_TOPICS"),
    ],
)
def test_unknown_variable_is_told_with_what_was_perhaps_meant(variable: str, suggested: str) -> None:
    assert unknown_variables({variable: "hunter2"}) == [f"{variable} is not a setting; did you mean {suggested}?"]


def test_unknown_variable_that_resembles_nothing_is_told_alone() -> None:
    assert unknown_variables({"LOOM_ZZZ": "", "HOME": "/", "LOOM_TOPICS": "a"}) == ["LOOM_ZZZ is not a setting"]


def test_known_variables_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ALL:
        monkeypatch.setenv(variable, "x")
    assert unknown_variables(os.environ) == []


@pytest.mark.parametrize("variable", sorted(ALL))
def test_every_setting_is_described(variable: str) -> None:
    section, name = ALL[variable]
    assert section.model_fields[name].description
    assert section.__doc__
