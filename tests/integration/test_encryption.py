"""TLS and logins with a real broker and a real server: what is promised of them holds, and what is refused is said.

PostgreSQL's side of TLS is a front of the tests' own (see ``tests/support/tls.py``): the wheel's server has none.
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from ingest.consumer import Broker, existing_topics
from ingest.database import Failure, classify, create_engine, describe
from ingest.errors import FatalError
from ingest.inquiry import inquire
from ingest.local.postgres import query
from ingest.local.stack import Stack
from ingest.reaching import NoBrokerError
from ingest.settings import DatabaseSettings, KafkaSettings, load_section
from tests.support import kafka, messages, tls
from tests.support.database import ROOT
from tests.support.service import Service, service_environment
from tests.support.topics import PLAIN
from tests.support.waiting import eventually

ROLE = "loom_encrypted"
PASSWORD = "p@ss:w/rd?x=1#2%40&'\"\\ ü"  # noqa: S105 - what a URL, a shell or SQL might take for something else
WRONG = "wr0ng-passw0rd"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    """The one that everybody here trusts."""
    return tls.Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def other_authority(tmp_path_factory: pytest.TempPathFactory) -> tls.Authority:
    return tls.Authority(tmp_path_factory.mktemp("authority"), "theirs")


@pytest.fixture(scope="module")
def broker(authority: tls.Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tls.EncryptedBroker]:
    with tls.encrypted_broker(tmp_path_factory.mktemp("broker"), authority) as running:
        yield running


@pytest.fixture(scope="module")
def role(stack: Stack) -> Iterator[str]:
    """A role with :data:`PASSWORD`."""
    quoted = PASSWORD.replace("'", "''")
    query(stack.database_url, f"CREATE ROLE {ROLE} SUPERUSER LOGIN PASSWORD '{quoted}'")
    yield ROLE
    query(stack.database_url, f"DROP ROLE {ROLE}")


@pytest.fixture(scope="module")
def front(stack: Stack, role: str, authority: tls.Authority) -> Iterator[tls.TlsFront]:
    """The database's server, with a certificate of :data:`tls.HOST`."""
    yield from _front(stack, authority.sign(tls.HOST))


@pytest.fixture(scope="module")
def misnamed_front(stack: Stack, role: str, authority: tls.Authority) -> Iterator[tls.TlsFront]:
    """The same, with somebody else's certificate, of the right authority."""
    yield from _front(stack, authority.sign("db.example"))


def _front(stack: Stack, certificate: tls.Certificate) -> Iterator[tls.TlsFront]:
    server = urlsplit(stack.database_url)
    assert server.hostname and server.port
    with tls.TlsFront(server.hostname, server.port, certificate) as running:
        yield running


@pytest.fixture(scope="module")
def ways(
    broker: tls.EncryptedBroker, authority: tls.Authority, other_authority: tls.Authority
) -> Mapping[str, dict[str, str]]:
    """Variables for each way to the broker: those that it lets in, and those that it does not."""
    client, stranger = authority.sign("client"), other_authority.sign("client")
    encrypted = {"LOOM_KAFKA_SECURITY_PROTOCOL": "SSL", "LOOM_KAFKA_SSL_CA_FILE": str(authority.file)}
    scram = encrypted | {
        "LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.sasl,
        "LOOM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "LOOM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "LOOM_KAFKA_SASL_USERNAME": tls.USER,
        "LOOM_KAFKA_SASL_PASSWORD": tls.SASL_PASSWORD,
    }
    plain = scram | {"LOOM_KAFKA_SASL_MECHANISM": "PLAIN"}
    anonymous = encrypted | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.mutual}
    return {
        "SCRAM": scram,
        "PLAIN": plain,
        "mutual TLS": anonymous | _client_certificate(client),
        "another authority": scram | {"LOOM_KAFKA_SSL_CA_FILE": str(other_authority.file)},
        "another host": scram | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.sasl.replace(tls.HOST, "127.0.0.1")},
        "elsewhere": encrypted | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.elsewhere},
        "wrong password": scram | {"LOOM_KAFKA_SASL_PASSWORD": WRONG},
        "wrong password, PLAIN": plain | {"LOOM_KAFKA_SASL_PASSWORD": WRONG},
        "other mechanism": scram | {"LOOM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
        "no login there": scram | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.elsewhere},
        "no client certificate": anonymous,
        "a stranger's certificate": anonymous | _client_certificate(stranger),
        "no login": encrypted | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.sasl},
        "no TLS": {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.mutual},
        "TLS where there is none": encrypted | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": broker.plain},
        "wrong password, one is down": scram
        | {"LOOM_KAFKA_BOOTSTRAP_SERVERS": f"{broker.sasl},127.0.0.1:1", "LOOM_KAFKA_SASL_PASSWORD": WRONG},
    }


def _client_certificate(certificate: tls.Certificate) -> dict[str, str]:
    return {
        "LOOM_KAFKA_SSL_CERT_FILE": str(certificate.certificate),
        "LOOM_KAFKA_SSL_KEY_FILE": str(certificate.key),
    }


def encrypted_url(url: str, front: tls.TlsFront, mode: str, authority: tls.Authority | None) -> str:
    """The same database through the front, without a password, as the chart writes it."""
    root = f"&sslrootcert={authority.file}" if authority else ""
    return f"postgresql://{ROLE}@{tls.HOST}:{front.port}{urlsplit(url).path}?sslmode={mode}{root}"


def run(environment: Mapping[str, str], *module: str) -> subprocess.CompletedProcess[str]:
    """A command as a user runs it. Whatever it says has no traceback and no secret in it."""
    result = subprocess.run(
        [sys.executable, "-m", *module],
        env={**os.environ, **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    _assert_clean(result.stdout + result.stderr)
    return result


def _assert_clean(said: str) -> None:
    assert [each for each in ("Traceback", PASSWORD, tls.SASL_PASSWORD, WRONG) if each in said] == [], said


def last_line(result: subprocess.CompletedProcess[str]) -> str:
    return (result.stdout + result.stderr).strip().splitlines()[-1]  # Alembic's is on stdout


@pytest.mark.parametrize("way", ["SCRAM", "mutual TLS"])
async def test_messages_travel_encrypted_into_the_table(
    stack: Stack,
    broker: tls.EncryptedBroker,
    ways: Mapping[str, dict[str, str]],
    front: tls.TlsFront,
    authority: tls.Authority,
    database_url: str,
    suffix: str,
    tmp_path: Path,
    way: str,
) -> None:
    topic = f"{PLAIN.name}.{suffix}"
    await kafka.create_topics(broker.plain, [topic])
    await kafka.produce(
        broker.plain, topic, [messages.encode(messages.plain(f"{suffix}-{number}")) for number in range(30)]
    )
    url = encrypted_url(database_url, front, "verify-full", authority)
    before = front.encrypted
    service = Service(service_environment(stack, url, suffix, PGPASSWORD=PASSWORD, **ways[way]), tmp_path / "log")
    service.start()
    try:
        connection = await asyncpg.connect(database_url)

        async def written() -> int:
            return int(await connection.fetchval("SELECT count(DISTINCT identity) FROM test_plain"))

        await eventually(written, until=lambda count: count == 30, within_s=60)
        await connection.close()
        assert service.page("/readyz")[0] == 200
        assert service.stop() == 0
    finally:
        service.clean_up()
    assert front.encrypted > before
    _assert_clean(service.log_path.read_text())


def test_migration_and_check_go_the_same_way(
    ways: Mapping[str, dict[str, str]], front: tls.TlsFront, authority: tls.Authority, empty_database_url: str
) -> None:
    url = encrypted_url(empty_database_url, front, "verify-full", authority)
    environment = ways["PLAIN"] | {"LOOM_DATABASE_URL": url, "PGPASSWORD": PASSWORD, "LOOM_TIMESCALE": "auto"}
    before = front.encrypted
    migration = run(environment, "alembic", "upgrade", "head")
    assert migration.returncode == 0, migration.stderr
    check = run(environment, "ingest", "check", "--broker")
    assert check.returncode == 0, check.stderr
    assert "the broker answers, and has 0 of 12 topics" in check.stdout
    assert front.encrypted >= before + 2


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("another authority", "the server's certificate is refused: unable to get local issuer certificate; see "),
        ("wrong password", "it refuses the login: "),
    ],
)
def test_what_a_broker_or_its_client_refuses_ends_the_process_with_one_line(
    stack: Stack, ways: Mapping[str, dict[str, str]], database_url: str, suffix: str, way: str, said: str
) -> None:
    """As README promises of refused credentials: nobody waits for what no retry cures."""
    environment = service_environment(stack, database_url, suffix, **ways[way])
    server = environment["LOOM_KAFKA_BOOTSTRAP_SERVERS"]
    for command in (("run",), ("check", "--broker")):
        result = run(environment, "ingest", *command)
        assert result.returncode == 4
        assert last_line(result).startswith(f"ingest: broker: {server}: {said}")
        assert "LOOM_KAFKA_" in last_line(result)


@pytest.mark.parametrize(
    ("way", "refused", "said"),
    [
        ("another host", True, "certificate is not valid for '127.0.0.1'; see LOOM_KAFKA_SSL_CA_FILE"),
        ("wrong password, PLAIN", True, "it refuses the login: Authentication failed"),
        ("other mechanism", True, "it takes no login by SCRAM-SHA-256; see LOOM_KAFKA_SASL_MECHANISM"),
        ("no login there", True, "it takes no login on that port; see LOOM_KAFKA_SECURITY_PROTOCOL"),
        ("no client certificate", True, "TLSV13_ALERT_CERTIFICATE_REQUIRED); see LOOM_KAFKA_SSL_CERT_FILE"),
        ("a stranger's certificate", True, "see LOOM_KAFKA_SSL_CERT_FILE"),
        ("elsewhere", True, "certificate is not valid for '127.0.0.1'"),
        # These might be a broker that is only starting, behind somebody who closes connections meanwhile.
        ("no login", False, "it closes the connection; does LOOM_KAFKA_SECURITY_PROTOCOL fit that port?"),
        ("no TLS", False, "it closes the connection; does LOOM_KAFKA_SECURITY_PROTOCOL fit that port?"),
        ("TLS where there is none", False, "it closes the connection; does LOOM_KAFKA_SECURITY_PROTOCOL fit that port"),
        # The other one may let it in.
        ("wrong password, one is down", False, "it refuses the login: "),
    ],
)
async def test_each_reason_is_told_apart(
    ways: Mapping[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, way: str, refused: bool, said: str
) -> None:
    settings = _settings(ways[way], monkeypatch)
    with pytest.raises(NoBrokerError) as checking:
        await existing_topics(settings, ["any"])
    member = Broker(settings, _Nobody(), client_id="loom-ingest-test")
    try:
        with pytest.raises(NoBrokerError) as starting:
            await member.start()
    finally:
        await member.stop()
    for caught in (checking, starting):
        assert (caught.value.refused, said in str(caught.value)) == (refused, True), str(caught.value)
        assert "\n" not in str(caught.value)
        _assert_clean(str(caught.value))


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("wrong password", r"localhost:\d+: it refuses the login: Authentication failed"),
        ("elsewhere", r"127\.0\.0\.1:\d+: the server's certificate is refused: IP address mismatch"),
    ],
)
async def test_commands_that_ask_the_broker_for_more_say_it_too(
    ways: Mapping[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch, way: str, said: str
) -> None:
    with pytest.raises(FatalError, match=f"^broker: {said}") as caught:
        async with inquire(_settings(ways[way], monkeypatch)):
            raise AssertionError("let in")
    _assert_clean(str(caught.value))


async def test_a_certificate_that_is_refused_later_is_said_too(
    ways: Mapping[str, dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections stay as they are. A new one is what meets it, long after the start."""
    member = Broker(_settings(ways["SCRAM"], monkeypatch), _Nobody(), client_id="loom-ingest-test")
    await member.start()
    try:
        member._options["ssl_context"].verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF  # and there is no such list
        for connection in list(member._consumer._client._conns.values()):
            connection.close()
        with pytest.raises(NoBrokerError, match="the server's certificate is refused: unable to get certificate CRL"):
            await member.subscribe(["any"])
    finally:
        await member.stop()


class _Nobody:
    """Is told of assignments that never come."""

    def assigned(self, partitions: Mapping[str, set[int]]) -> None:
        raise AssertionError(partitions)

    def revoked(self) -> None:
        raise AssertionError


def _settings(variables: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> KafkaSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return load_section(KafkaSettings)


def test_another_hosts_certificate_is_refused_by_verify_full_with_one_line(
    stack: Stack, misnamed_front: tls.TlsFront, authority: tls.Authority, database_url: str, suffix: str
) -> None:
    url = encrypted_url(database_url, misnamed_front, "verify-full", authority)
    environment = service_environment(stack, url, suffix, PGPASSWORD=PASSWORD, LOOM_TIMESCALE="auto")
    for command, code in ((("ingest", "run"), 4), (("ingest", "check"), 4), (("alembic", "upgrade", "head"), 255)):
        result = run(environment, *command)
        assert result.returncode == code, result.stderr
        said = last_line(result)
        assert "database: the server's certificate is refused: Hostname mismatch" in said
        assert all(each in said for each in (f"'{tls.HOST}'", "sslmode", "LOOM_DATABASE_URL"))


async def test_another_hosts_certificate_is_accepted_where_no_name_is_asked_for(
    misnamed_front: tls.TlsFront,
    authority: tls.Authority,
    other_authority: tls.Authority,
    database_url: str,
) -> None:
    """As in libpq: ``require`` checks the authority where one is given, ``verify-ca`` does always, and no more."""

    async def connect(mode: str, signed_by: tls.Authority | None) -> None:
        connection = await asyncpg.connect(
            encrypted_url(database_url, misnamed_front, mode, signed_by), password=PASSWORD
        )
        await connection.close()

    for mode, signed_by in (("require", None), ("require", authority), ("verify-ca", authority)):
        await connect(mode, signed_by)
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect("require", other_authority)


async def test_the_database_is_shown_the_clients_certificate(
    stack: Stack,
    role: str,
    authority: tls.Authority,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    client = authority.sign("client")
    server = urlsplit(stack.database_url)
    assert server.hostname and server.port
    with tls.TlsFront(server.hostname, server.port, authority.sign(tls.HOST), clients=authority) as front:
        url = encrypted_url(database_url, front, "verify-full", authority)
        with pytest.raises((OSError, asyncpg.ConnectionDoesNotExistError)):
            await asyncpg.connect(url)
        shown = f"{url}&sslcert={client.certificate}&sslkey={client.key}"
        engine = create_engine(DatabaseSettings(url=shown), application_name="loom-ingest-kafka-test")
        try:
            async with engine.connect() as connection:
                assert await connection.scalar(text("SELECT current_user")) == ROLE
        finally:
            await engine.dispose()


async def fatal_in_the_end(url: str) -> str:
    """What is said of a connection that no retry cures. The alert that tells it can lose a race with the reset of the
    connection; then it is tried again, as after any reset."""
    engine = create_engine(DatabaseSettings(url=url), application_name="loom-ingest-kafka-test")
    try:
        for _ in range(50):
            with pytest.raises((OSError, DBAPIError)) as raised:
                await engine.connect()
            if classify(raised.value) is Failure.FATAL:
                return describe(raised.value)
        raise AssertionError(f"it would be waited for: {describe(raised.value)}")
    finally:
        await engine.dispose()


async def test_a_database_that_refuses_the_clients_certificate_is_not_waited_for(
    authority: tls.Authority, other_authority: tls.Authority
) -> None:
    stranger = other_authority.sign("client")
    with tls.refusing_front(authority.sign(tls.HOST), authority) as port:
        url = f"postgresql://u@{tls.HOST}:{port}/d?sslmode=verify-full&sslrootcert={authority.file}"
        for refused in (url, f"{url}&sslcert={stranger.certificate}&sslkey={stranger.key}"):
            assert "the server refuses the client's certificate" in await fatal_in_the_end(refused)
