"""TLS between a sidecar and its peers, where the address is TCP.

Rule: both ends are ours, so nothing older than TLS 1.3 is spoken, and a client always
checks who the sidecar is. A certificate says who somebody is; what one may do is said
by `access`.
"""

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from ..messages import ConfigError

if TYPE_CHECKING:  # a client has no use for it
    from .config import ServerConfig

_VERSION: Final = ssl.TLSVersion.TLSv1_3


@dataclass(frozen=True, slots=True)
class ClientTls:
    """What a client needs to know a sidecar, and to be known by it."""

    ca: str
    """File with the certificates that may have signed the sidecar's."""
    certificate: str | None = None
    """File with our own certificate, where the sidecar asks for one."""
    key: str | None = None
    server_name: str | None = None
    """Name in the sidecar's certificate; the address's host by default."""

    def context(self) -> ssl.SSLContext:
        """Return the context to connect with.

        Raises
        ------
        ConfigError
            When a file is missing or is not what it should be.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = _VERSION
        _load_ca(context, self.ca, "tls_ca")
        if self.certificate is not None:
            _load_chain(context, self.certificate, self.key, "tls_certificate")
        return context


def server_context(config: "ServerConfig") -> ssl.SSLContext | None:
    """Return the context to listen with; ``None`` where no TLS is configured.

    Raises
    ------
    ConfigError
        When a file is missing or is not what it should be.
    """
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSION
    key = "server.tls_certificate"
    _load_chain(context, config.tls_certificate, config.tls_key, key)
    if config.tls_client_ca is not None:
        _load_ca(context, config.tls_client_ca, "server.tls_client_ca")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def common_name(certificate: object) -> str | None:
    """Return the common name of a verified certificate, as the ssl module gives it.

    Examples
    --------
    >>> common_name({"subject": ((("commonName", "feed-a"),),)})
    'feed-a'
    """
    if not isinstance(certificate, dict):
        return None
    subject = cast("dict[str, Any]", certificate).get("subject", ())
    names = [value for part in subject for key, value in part if key == "commonName"]
    return str(names[0]) if len(names) == 1 else None


def _load_chain(
    context: ssl.SSLContext, certificate: str, key: str | None, path: str
) -> None:
    try:
        # The empty password: a key that needs one must not ask a terminal for it.
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise _problem(path, f"{certificate}, {key}", error) from error


def _load_ca(context: ssl.SSLContext, ca: str, path: str) -> None:
    try:
        context.load_verify_locations(ca)
    except OSError as error:
        raise _problem(path, ca, error) from error


def _problem(path: str, files: str, error: Exception) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return ConfigError([(path, f"{files}: {reason or error}")])
