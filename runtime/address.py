"""Where a sidecar listens: a Unix socket's path, or a TCP host and port.

Rule: one text form for configuration, command line, logs and errors; what `str` writes,
`Address.parse` reads back as the same address.
"""

import ipaddress
import os
import sys
from dataclasses import dataclass
from typing import Final, Self

from ..messages import ConfigError

MAX_PATH_BYTES: Final = 103 if sys.platform == "darwin" else 107
"""Longest path of a Unix socket: ``sun_path`` of the platform, less its final NUL. The
kernel's own complaint about a longer one names neither the path nor the limit."""

MAX_PORT: Final = 65_535

_FORMS: Final = "unix:///path/to.sock, /path/to.sock, ./to.sock or tcp://host:port"


@dataclass(frozen=True, slots=True)
class Address:
    """A place to listen at or connect to; made by `parse`.

    Examples
    --------
    >>> Address.parse("tcp://127.0.0.1:7700")
    Address(path=None, host='127.0.0.1', port=7700)
    >>> str(Address.parse("/run/beta.sock"))
    'unix:///run/beta.sock'
    """

    path: str | None = None
    """Path of the Unix socket; ``None`` where the address is TCP."""
    host: str = ""
    """Host name or IP address, without the brackets of IPv6."""
    port: int = 0
    """TCP port; 0 lets the system choose one to listen at."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address.

        Parameters
        ----------
        text
            ``unix:///path/to.sock``, ``/path/to.sock``, ``./to.sock`` (relative to
            where the process runs) or ``tcp://host:port``.

        Raises
        ------
        ConfigError
            When ``text`` has none of these forms, a path is longer than a socket's may
            be, or a port is none.
        """
        if text.startswith("tcp://"):
            host, port = _host_and_port(text)
            return cls(host=host, port=port)
        path = text.removeprefix("unix://")
        is_relative = path.startswith(("./", "../"))
        if not path.startswith("/") and (path != text or not is_relative):
            raise _problem(text, f"must be {_FORMS}")
        if path.endswith("/"):
            raise _problem(text, "must end in the name of a socket")
        if "\0" in path:
            raise _problem(text, "must not contain a NUL")
        try:
            size = len(os.fsencode(path))
        except UnicodeEncodeError as error:
            raise _problem(text, f"is no file name: {error.reason}") from error
        if size > MAX_PATH_BYTES:
            reason = f"path must be at most {MAX_PATH_BYTES} bytes, was {size}"
            raise _problem(text, reason)
        return cls(path=path)

    def __str__(self) -> str:
        if self.path is None:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"tcp://{host}:{self.port}"
        # a relative path has no URL form
        return f"unix://{self.path}" if self.path.startswith("/") else self.path


def default_address() -> Address:
    """Return the address of this user's sidecar, for server and client alike.

    It is ``$XDG_RUNTIME_DIR/beta-factory.sock``, or ``/tmp/beta-factory-<uid>.sock``
    where the variable is not set to an absolute path.

    Raises
    ------
    ConfigError
        When ``$XDG_RUNTIME_DIR`` is too long a path to hold a socket.
    """
    folder = os.environ.get("XDG_RUNTIME_DIR", "")
    # the XDG specification has relative paths ignored
    if folder.startswith("/"):
        return Address.parse(f"{folder.rstrip('/')}/beta-factory.sock")
    return Address.parse(f"/tmp/beta-factory-{os.getuid()}.sock")  # noqa: S108 - as documented


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, reached without a network."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _host_and_port(text: str) -> tuple[str, int]:
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon:
        raise _problem(text, "has no port: tcp://host:port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise _problem(text, "an IPv6 host stands in brackets: tcp://[::1]:7700")
    if not host:
        raise _problem(text, "has no host: tcp://host:port")
    if unsafe := [
        c for c in host if c in "/@[]?#" or c.isspace() or not c.isprintable()
    ]:
        raise _problem(text, f"host must not contain {unsafe[0]!r}")
    is_number = port.isascii() and port.isdigit() and len(port) <= len(str(MAX_PORT))
    if not is_number or int(port) > MAX_PORT:
        raise _problem(text, f"port must be 0 to {MAX_PORT}, was {port!r}")
    return host, int(port)


def _problem(text: str, reason: str) -> ConfigError:
    return ConfigError([("address", f"{reason}, was {text!r}")])
