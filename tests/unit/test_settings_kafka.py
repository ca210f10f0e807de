"""Kafka's security settings: complete or refused, passed on as the client takes them, certificates that can be used."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.errors import SettingsError
from ingest.settings import KafkaSettings, load_section

SERVERS = "one:9092,two:9092"


@pytest.fixture(autouse=True)
def _servers(_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOM_KAFKA_BOOTSTRAP_SERVERS", SERVERS)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"LOOM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, ["LOOM_KAFKA_SASL_USERNAME", "LOOM_KAFKA_SASL_PASSWORD"]),
        (
            {"LOOM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", "LOOM_KAFKA_SASL_USERNAME": "u"},
            ["LOOM_KAFKA_SASL_PASSWORD"],
        ),
        ({"LOOM_KAFKA_SSL_CERT_FILE": "/c"}, ["LOOM_KAFKA_SSL_CERT_FILE", "LOOM_KAFKA_SSL_KEY_FILE"]),
        ({"LOOM_KAFKA_SSL_KEY_FILE": "/k"}, ["LOOM_KAFKA_SSL_CERT_FILE", "LOOM_KAFKA_SSL_KEY_FILE"]),
    ],
)
def test_settings_that_belong_together_are_named_together(
    environment: dict[str, str], named: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as caught:
        load_section(KafkaSettings)
    assert all(name in str(caught.value) for name in named) and "\n" not in str(caught.value)


def test_client_is_given_what_the_security_protocol_needs_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_section(KafkaSettings).client_options() == {
        "bootstrap_servers": SERVERS,
        "security_protocol": "PLAINTEXT",
    }
    monkeypatch.setenv("LOOM_KAFKA_SASL_USERNAME", "u")
    monkeypatch.setenv("LOOM_KAFKA_SASL_PASSWORD", "hunter2")
    monkeypatch.setenv("LOOM_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("LOOM_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    options = load_section(KafkaSettings).client_options()
    assert options.pop("ssl_context").check_hostname is True
    assert options == {
        "bootstrap_servers": SERVERS,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "u",
        "sasl_plain_password": "hunter2",
    }


@pytest.mark.parametrize("files", [["CA"], ["CERT", "KEY"]], ids=["of the broker", "of the client"])
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_unusable_certificate_is_one_line_with_its_path(
    content: str | None, files: list[str], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("LOOM_KAFKA_SECURITY_PROTOCOL", "SSL")
    for each in files:
        monkeypatch.setenv(f"LOOM_KAFKA_SSL_{each}_FILE", str(path))
    with pytest.raises(SettingsError, match="LOOM_KAFKA_SSL") as caught:
        load_section(KafkaSettings).client_options()
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
