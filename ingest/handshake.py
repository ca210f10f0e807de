"""What a TLS handshake that failed means: whether a certificate was refused, and whose.

It is told by the error's kind and OpenSSL's own codes, never by the text of a message.
"""

from __future__ import annotations

import ssl

_OF_THE_CLIENT = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV1_ALERT_ACCESS_DENIED",
        "TLSV1_ALERT_UNKNOWN_CA",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
    }
)
"""Alerts by which a server refuses a client's certificate, or misses one. Source: RFC 8446, section 6.2; the names are
OpenSSL's."""


def refused_certificate(error: BaseException) -> str | None:
    """What to say where one side refuses the other's certificate; None for any other failure.

    >>> refused_certificate(ConnectionResetError())
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the server's certificate is refused: {error.verify_message.rstrip('.')}"
    # Only OpenSSL's own errors have a reason.
    if isinstance(error, ssl.SSLError) and (reason := getattr(error, "reason", None)) in _OF_THE_CLIENT:
        return f"the server refuses the client's certificate, or misses one ({reason})"
    return None
