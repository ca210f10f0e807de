"""Encryption with real parts: authorities, a broker with encrypted listeners, and a TLS front of the database's server.

The wheel's PostgreSQL is built without TLS. :class:`TlsFront` answers for it, as PgBouncer or a cloud's proxy does;
what is behind it is the server itself.
"""

from __future__ import annotations

import asyncio
import socketserver
import ssl
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import trustme
from cryptography.hazmat.primitives import serialization

from ingest.local.kafka import KafkaServer
from ingest.local.ports import LOOPBACK, free_port
from tests.support.proxy import Proxy

HOST = "localhost"
"""The one name that certificates of :class:`Authority` are made for: by its address, a server is somebody else."""
USER = "loom"
SASL_PASSWORD = "sasl/pa:ss@%w0rd"  # noqa: S105 - of a broker that lives as long as the tests
_SSL_REQUEST = struct.pack(">ii", 8, 80877103)


@dataclass(frozen=True)
class Certificate:
    """One file each, in PEM. The key is PKCS #8, which is all that Kafka reads."""

    certificate: Path
    key: Path

    def both(self) -> str:
        return self.key.read_text() + self.certificate.read_text()


class Authority:
    """Signs certificates; files of them are made below ``directory``."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._ca = trustme.CA(organization_name=name)
        self.file = directory / f"{name}.crt"
        self._ca.cert_pem.write_to_path(self.file)

    def sign(self, name: str) -> Certificate:
        """A certificate of the host, or client, of this name."""
        made = self._ca.issue_cert(name)
        path = self._directory / f"{self.file.stem}-{name}"
        certificate, key = path.with_suffix(".crt"), path.with_suffix(".key")
        certificate.write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))
        private = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
        key.write_bytes(
            private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Certificate(certificate, key)


@dataclass(frozen=True)
class EncryptedBroker:
    """Where a broker listens, ``host:port`` each."""

    plain: str
    """Without either: what the tests themselves use."""
    sasl: str
    """SASL_SSL with SCRAM-SHA-512 and PLAIN, for :data:`USER` with :data:`SASL_PASSWORD`."""
    mutual: str
    """SSL, for clients with a certificate."""
    elsewhere: str
    """SSL; it tells its clients to come back to a host that its certificate does not name."""


@contextmanager
def encrypted_broker(directory: Path, authority: Authority) -> Iterator[EncryptedBroker]:
    """A Kafka of its own; its certificate is for :data:`HOST`."""
    server = KafkaServer(directory / "kafka", say=lambda _: None)
    server.prepare("--add-scram", f"SCRAM-SHA-512=[name={USER},password={SASL_PASSWORD}]")
    ports = {name: free_port() for name in ("SASL_SSL", "MUTUAL", "ELSEWHERE")}
    properties = server.directory / "server.properties"
    key_store = directory / "broker.pem"
    key_store.write_text(authority.sign(HOST).both())
    properties.write_text(_with_listeners(properties.read_text(), ports, key_store, authority.file))
    try:
        server.start()
        sasl, mutual, elsewhere = (f"{HOST}:{port}" for port in ports.values())
        yield EncryptedBroker(server.address, sasl, mutual, elsewhere)
    finally:
        server.remove()


def _with_listeners(properties: str, ports: dict[str, int], key_store: Path, authority: Path) -> str:
    given = dict(line.split("=", 1) for line in properties.splitlines())
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    advertised = {name: LOOPBACK if name == "ELSEWHERE" else HOST for name in ports}
    given |= {
        "listeners": ",".join([given["listeners"], *(f"{name}://{LOOPBACK}:{ports[name]}" for name in ports)]),
        "advertised.listeners": ",".join(
            [given["advertised.listeners"], *(f"{name}://{advertised[name]}:{ports[name]}" for name in ports)]
        ),
        "listener.security.protocol.map": given["listener.security.protocol.map"]
        + ",SASL_SSL:SASL_SSL,MUTUAL:SSL,ELSEWHERE:SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(key_store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.sasl_ssl.sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{login} user_{USER}="{SASL_PASSWORD}";',
    }
    return "".join(f"{name}={value}\n" for name, value in given.items())


class TlsFront(Proxy):
    """A proxy that answers PostgreSQL's SSLRequest, and passes on what comes through TLS.

    A client that does not ask for TLS is turned away.

    Args:
        clients: who signs the certificates that clients have to show; without it, they need none.
    """

    def __init__(self, host: str, port: int, certificate: Certificate, *, clients: Authority | None = None) -> None:
        super().__init__(host, port)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        if clients is not None:
            self._context.load_verify_locations(clients.file)
            self._context.verify_mode = ssl.CERT_REQUIRED
        self.encrypted = 0
        """Connections that have come through TLS so far."""

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readexactly(len(_SSL_REQUEST)) == _SSL_REQUEST:
            writer.write(b"S")
            await writer.start_tls(self._context)
            self.encrypted += 1
            await super()._pass_on(reader, writer)


@contextmanager
def refusing_front(certificate: Certificate, clients: Authority) -> Iterator[int]:
    """The port of a server that gets as far as the handshake, for clients whose certificate it does not take.

    It shakes hands on a blocking socket, as PostgreSQL does: then OpenSSL tells the client why it is refused. asyncio
    closes the connection and says nothing.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(clients.file))
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.verify_mode = ssl.CERT_REQUIRED

    class Refusal(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            if self.request.recv(len(_SSL_REQUEST)) == _SSL_REQUEST:
                self.request.sendall(b"S")
                with suppress(OSError):
                    context.wrap_socket(self.request, server_side=True).close()

    with socketserver.TCPServer((LOOPBACK, 0), Refusal) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
