"""Every setting, read from the environment, checked before anything starts. Secrets never leave ``SecretStr``.

``docs/settings.md`` is generated from this module.
"""

from __future__ import annotations

import difflib
import os
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    AwareDatetime,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from ingest.errors import SettingsError

PREFIX = "LOOM_"
S = TypeVar("S", bound=BaseSettings)


class KafkaSettings(BaseSettings):
    """The broker, the group, and how much is read at once."""

    model_config = SettingsConfigDict(env_prefix="LOOM_KAFKA_", env_ignore_empty=True, frozen=True)

    bootstrap_servers: str = Field(description="brokers to begin with, comma-separated: `host:port,host:port`")
    group_id: str = Field("kafka-to-db-consumer", min_length=1, description="consumer group; the ledger's key, too")
    batch_size: int = Field(
        200,
        ge=1,
        le=100_000,
        description="messages that make a batch ready before its time; while another is written, or as many more wait "
        "at the broker, it goes on to fill",
    )
    batch_timeout: float = Field(
        0.5,
        gt=0,
        le=60,
        description="seconds from one batch to the next while little comes: no message waits longer, and after a pause "
        "none waits at all",
    )
    max_poll_records: int = Field(500, ge=1, le=100_000, description="messages taken from the client at once")
    fetch_max_bytes: int = Field(52_428_800, ge=1024, description="bytes of one fetch response")
    max_partition_fetch_bytes: int = Field(
        1_048_576,
        ge=1024,
        description="bytes of one partition in a fetch response; one such buffer is held for each",
    )
    session_timeout_ms: int = Field(60_000, ge=1_000, description="ms without heartbeat before the group moves on")
    auto_offset_reset: Literal["earliest", "latest"] = Field(
        "earliest", description="where to begin when neither the ledger nor the group has an offset"
    )
    on_missing_offsets: Literal["stop", "earliest"] = Field(
        "stop",
        description="when the broker no longer has the ledger's offset: stop that partition and say so, or go on at "
        "the earliest and record what was missed",
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT",
        description="how the broker is spoken to: with TLS (`SSL`), with a login (`SASL_…`), both or neither",
    )
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="how the login is proven, where the protocol has SASL"
    )
    sasl_username: str | None = Field(None, description="the login's name; required with SASL")
    sasl_password: SecretStr | None = Field(None, description="its password; required with SASL")
    ssl_ca_file: Path | None = Field(None, description="certificates that the broker's is checked against")
    ssl_cert_file: Path | None = Field(None, description="client certificate, for mutual TLS")
    ssl_key_file: Path | None = Field(None, description="its key")

    @model_validator(mode="after")
    def _complete(self) -> KafkaSettings:
        if self.security_protocol.startswith("SASL") and not (self.sasl_username and self.sasl_password):
            raise ValueError(f"{self.security_protocol} needs LOOM_KAFKA_SASL_USERNAME and LOOM_KAFKA_SASL_PASSWORD")
        if (self.ssl_cert_file is None) != (self.ssl_key_file is None):
            raise ValueError("LOOM_KAFKA_SSL_CERT_FILE and LOOM_KAFKA_SSL_KEY_FILE go together")
        return self

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every aiokafka client takes. Raises SettingsError for an unreadable certificate."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap_servers,
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.startswith("SASL"):
            assert self.sasl_password is not None
            options |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value(),
            }
        if self.security_protocol.endswith("SSL"):
            try:
                context = ssl.create_default_context(cafile=self.ssl_ca_file)
                if self.ssl_cert_file:
                    context.load_cert_chain(self.ssl_cert_file, self.ssl_key_file)
            except OSError as error:  # ssl.SSLError is one
                raise SettingsError(
                    f"LOOM_KAFKA_SSL_*: can't use {self.ssl_ca_file or 'the system certificates'} "
                    f"{self.ssl_cert_file or ''} {self.ssl_key_file or ''}: {error}"
                ) from error
            options["ssl_context"] = context
        return options


class DatabaseSettings(BaseSettings):
    """The database and the pool."""

    model_config = SettingsConfigDict(env_prefix="LOOM_DB_", env_ignore_empty=True, frozen=True, populate_by_name=True)

    url: SecretStr = Field(
        validation_alias="LOOM_DATABASE_URL",
        description="`postgresql://user:password@host:port/database`; `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, "
        "several hosts as in libpq; without a password `PGPASSWORD` is used",
    )
    migration_url: SecretStr | None = Field(
        None,
        validation_alias="LOOM_MIGRATION_DATABASE_URL",
        description="the role that owns the tables, for Alembic; without it LOOM_DATABASE_URL",
    )
    min_pool_size: int = Field(20, ge=1, le=1000, description="connections kept open once they were needed")
    max_pool_size: int = Field(50, ge=1, le=1000, description="connections at most, opened as needed")

    @field_validator("url", "migration_url")
    @classmethod
    def _postgresql(cls, url: SecretStr | None) -> SecretStr | None:
        if url is None:
            return None
        text = url.get_secret_value().replace("postgresql+asyncpg://", "postgresql://", 1)
        # The value itself is not quoted: it holds the password.
        try:
            scheme = urlsplit(text).scheme
        except ValueError:
            raise ValueError("is not a URL: quote what is special in user and password (%40 for @)") from None
        if scheme not in ("postgresql", "postgres"):
            raise ValueError("must begin with postgresql://")
        _require_certificates(dict(parse_qsl(urlsplit(text).query)))
        return SecretStr(text)

    @model_validator(mode="after")
    def _ordered(self) -> DatabaseSettings:
        if self.min_pool_size > self.max_pool_size:
            raise ValueError("LOOM_DB_MIN_POOL_SIZE is greater than LOOM_DB_MAX_POOL_SIZE")
        return self


def _require_certificates(parameters: Mapping[str, str]) -> None:
    """Raises ValueError for files of a database's URL that can't be used: to the driver's caller, one that is missing
    looks like a server that is not there."""
    if parameters.get("sslmode") not in ("require", "verify-ca", "verify-full"):
        return
    for name in ("sslrootcert", "sslcert", "sslkey"):
        if path := parameters.get(name):
            try:
                Path(path).open("rb").close()
                if name == "sslrootcert":
                    ssl.create_default_context(cafile=path)
            except OSError as error:  # ssl.SSLError is one
                raise ValueError(f"{name}: can't use {path}: {error.strerror or error}") from None
    certificate, key = parameters.get("sslcert"), parameters.get("sslkey")
    if certificate and key:
        password = parameters.get("sslpassword", "")
        try:
            ssl.create_default_context().load_cert_chain(certificate, key, password=lambda: password)
        except ssl.SSLError as error:
            raise ValueError(f"sslcert, sslkey: can't use {certificate} with {key}: {error.strerror}") from None


class SchemaSettings(BaseSettings):
    """What the database is to keep of the declared schema."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    timescale: Literal["required", "auto", "off"] = Field(
        "required",
        description="without TimescaleDB or its community features: refuse (`required`), or make ordinary tables and "
        "plain views of what can't be had (`auto`); `off` makes those everywhere. For migrations (docs/timescale.md)",
    )


class ServiceSettings(BaseSettings):
    """The process itself."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    topics: Annotated[tuple[str, ...], NoDecode] = Field(
        ("ingest.topics",),
        description="import paths of the modules or packages that hold the topics, comma-separated",
    )
    batch_max_messages: int = Field(10_000, ge=1, le=100_000, description="messages of one batch at most")
    batch_max_bytes: int = Field(16_777_216, ge=1024, description="bytes of one batch's messages at most")
    max_clock_skew: float = Field(
        86_400, gt=0, description="seconds that a message's timestamp may lie ahead of the broker's"
    )
    oldest_timestamp: AwareDatetime = Field(
        datetime(2000, 1, 1, tzinfo=UTC), description="a message's timestamp before this is refused"
    )
    http_host: str = Field("0.0.0.0", description="address of /metrics, /healthz and /readyz")  # noqa: S104 - a pod's
    http_port: int = Field(8080, ge=0, le=65535, description="their port; 0 takes a free one and logs it")
    monitor_every: float = Field(
        10,
        ge=1,
        le=60,
        description="seconds between the samples of lag and throughput in consumer_lag_history and "
        "consumer_processing_metrics",
    )
    shutdown_grace: float = Field(20, gt=0, description="seconds to write what was read when asked to stop")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="the least serious events that are logged"
    )
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: JSON when not a terminal")

    @field_validator("topics", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _some_topic(self) -> ServiceSettings:
        if not self.topics:
            raise ValueError("LOOM_TOPICS names no module")
        return self


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a running service."""

    kafka: KafkaSettings
    database: DatabaseSettings
    service: ServiceSettings


SECTIONS: tuple[type[BaseSettings], ...] = (KafkaSettings, DatabaseSettings, SchemaSettings, ServiceSettings)


def load_settings() -> Settings:
    """Settings from the environment. Raises SettingsError that names every variable that is missing or wrong."""
    problems: list[str] = []
    settings = Settings(
        _load(KafkaSettings, problems), _load(DatabaseSettings, problems), _load(ServiceSettings, problems)
    )
    _load(SchemaSettings, problems)  # a running service needs it for nothing, but wrong is wrong
    if problems:
        raise SettingsError("; ".join(problems) + " (docs/settings.md lists every setting)")
    return settings


def load_section(section: type[S]) -> S:
    """One section alone, for commands that need no more. Raises SettingsError as :func:`load_settings` does."""
    problems: list[str] = []
    loaded = _load(section, problems)
    if problems:
        raise SettingsError("; ".join(problems) + " (docs/settings.md lists every setting)")
    return loaded


def variable_of(section: type[BaseSettings], name: str) -> str:
    """The environment variable of a field."""
    alias = section.model_fields[name].validation_alias
    if isinstance(alias, str):
        return alias
    return f"{section.model_config['env_prefix']}{name}".upper()


def unknown_variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """One line for every ``LOOM_…`` variable that is no setting: most often a typing error."""
    known = {variable_of(section, name) for section in SECTIONS for name in section.model_fields}
    return [
        f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "")
        for name in sorted(set(environ) - known)
        if name.startswith(PREFIX)
        for close in [difflib.get_close_matches(name, known, n=1, cutoff=0.7)]
    ]


def _load(section: type[S], problems: list[str]) -> S:
    try:
        return section()
    except ValidationError as error:
        problems.extend(_describe(section, error))
        return cast(S, section.model_construct())


def _describe(section: type[BaseSettings], error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_input=False):
        where = str(problem["loc"][0]) if problem["loc"] else ""
        if where in section.model_fields:
            where = variable_of(section, where)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "missing":
            message = "is required and not set"
        yield f"{where} {message}".strip()
