"""Why no broker can be used. aiokafka tells that to its log, and to its caller only that it found none.

Promise kept here: what no retry cures is not waited for as if it were an outage.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import errors
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from ingest.handshake import refused_certificate

ASK_S = 5.0
"""A broker that says nothing for so long does not answer."""


class NoBrokerError(KafkaConnectionError):  # type: ignore[misc] # aiokafka ships no types
    """No broker can be used. ``str(error)`` is what each of them says, in one line."""

    def __init__(self, said: str, *, refused: bool) -> None:
        super().__init__(said)
        self.refused = refused
        """Whether every one of them answers, and refuses this client or is refused by it: no retry cures that."""

    def __str__(self) -> str:
        return str(self.args[0])


@asynccontextmanager
async def reaching(options: Mapping[str, Any], client: Any = None) -> AsyncIterator[None]:
    """What fails within becomes a NoBrokerError, if the brokers say why when they are asked once more.

    Args:
        options: of the client, as ``KafkaSettings.client_options`` gives them.
        client: that client's AIOKafkaClient. Once it knows the brokers, they are asked by the addresses that they gave
            of themselves, as it does.
    """
    try:
        yield
    except (KafkaError, TimeoutError) as error:
        explained = await _explanation(options, client)
        if explained is None:
            raise
        raise explained from error


async def _explanation(options: Mapping[str, Any], client: Any) -> NoBrokerError | None:
    """None when one of the brokers answers: it was something else, or it is over."""
    given = dict(options)
    addresses = {(host, port) for host, port, _ in collect_hosts(given.pop("bootstrap_servers"))}
    if client is not None and (known := client.cluster.brokers()):
        addresses = {(broker.host, broker.port) for broker in known}

    async def ask(host: str, port: int) -> tuple[str, bool] | None:
        try:
            async with asyncio.timeout(ASK_S):
                connection = await create_conn(host, port, client_id="loom-ingest-reaching", **given)
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except (OSError, TimeoutError, KafkaError) as error:
            said, refused = _said(error, given)
            return f"{host}:{port}: {said}", refused
        return None

    answers = await asyncio.gather(*(ask(*address) for address in sorted(addresses)))
    failures = [answer for answer in answers if answer is not None]
    if len(failures) < len(answers):
        return None
    return NoBrokerError("; ".join(said for said, _ in failures), refused=all(refused for _, refused in failures))


def _said(error: Exception, options: Mapping[str, Any]) -> tuple[str, bool]:
    """What a person has to know, and whether it is a refusal."""
    match error:
        case errors.UnsupportedSaslMechanismError():
            return f"it takes no login by {options['sasl_mechanism']}; see LOOM_KAFKA_SASL_MECHANISM", True
        case errors.IllegalSaslStateError():
            return "it takes no login on that port; see LOOM_KAFKA_SECURITY_PROTOCOL", True
        case errors.SaslAuthenticationFailed():
            reason = " ".join(str(each) for each in error.args if each) or "no reason given"
            return f"it refuses the login: {reason}; see LOOM_KAFKA_SASL_USERNAME and its password", True
    for link in (error, error.__cause__):
        if link is not None and (refused := refused_certificate(link)):
            theirs = isinstance(link, ssl.SSLCertVerificationError)
            hint = "LOOM_KAFKA_SSL_CA_FILE, and whom the certificate names" if theirs else "LOOM_KAFKA_SSL_CERT_FILE"
            return f"{refused}; see {hint}", True
    if isinstance(error, TimeoutError):
        return f"no answer within {ASK_S:g} s", False
    if isinstance(error, KafkaConnectionError) or not str(error):
        return "it closes the connection; does LOOM_KAFKA_SECURITY_PROTOCOL fit that port?", False
    return str(error), False
