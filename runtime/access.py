"""Who may connect, as what, and to which topics.

Rule: a secret is read from a file that only its owner can read, or from a variable;
here it becomes a digest and is forgotten. No secret is in an error, a log, a `repr` or
a command line. Every grant is compared with every token, each in constant time, so that
neither how long an answer takes nor what it says tells how close a guess was.

An access file is TOML, one section per grant::

    [desk-a]
    roles = ["subscriber"]
    topics = ["beta.market.*"]
    token = "..."

    [feed-a]
    roles = ["feed"]
    certificate = "feed-a.example"

``certificate`` is the common name of a client certificate that ``tls_client_ca`` has
signed. A grant that has both a token and a certificate asks for both.
"""

import hashlib
import hmac
import os
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from ..messages import (
    ConfigError,
    Hello,
    InvalidTopicError,
    RejectedError,
    RejectReason,
    Role,
)
from ..messages.fields import MAX_NAME_LENGTH, Pattern
from ..messages.topics import check_pattern, covers
from .config import ServerConfig
from .tokens import read_secret, token_problem

EVERYTHING: Final = (">",)

GRANTED_ROLES: Final = frozenset((Role.FEED, Role.SUBSCRIBER, Role.OPERATOR))
"""Roles that a peer can have; a sidecar does not connect to one."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one peer, or one kind of peer, may do."""

    name: str
    """For logs."""
    roles: frozenset[Role] = GRANTED_ROLES
    topics: tuple[str, ...] = EVERYTHING
    """Patterns; a subscription must lie within one of them."""
    token_digest: bytes | None = field(default=None, repr=False)
    certificate: str | None = None

    def check_topic(self, pattern: str) -> None:
        """Raise unless one may subscribe to everything that a pattern matches.

        Raises
        ------
        RejectedError
            With the patterns that are granted.
        """
        if not any(covers(granted, pattern) for granted in self.topics):
            granted = ", ".join(self.topics)
            raise _not_allowed(f"{pattern} is not granted, but {granted}")


ANYBODY: Final = Grant("anybody")
"""Whoever can open the socket: its file mode says who that is."""


class Access:
    """The grants of one sidecar.

    Parameters
    ----------
    grants
        What is granted to whom.
    """

    def __init__(self, grants: Sequence[Grant]) -> None:
        self.grants = tuple(grants)

    def admit(self, hello: Hello, certificate: str | None = None) -> Grant:
        """Return the grant of a peer that greets.

        Parameters
        ----------
        hello
            What it said.
        certificate
            Common name of the certificate that it proved to be its own.

        Raises
        ------
        RejectedError
            When nothing is granted to it, or not the role that it asks for.
        """
        digest = digest_of(hello.token)
        found: Grant | None = None
        for grant in self.grants:  # all of them, whichever fits
            fits = hmac.compare_digest(grant.token_digest or digest, digest)
            if grant.certificate is not None and grant.certificate != certificate:
                fits = False
            if fits and (found is None or hello.role in grant.roles):
                found = grant
        if found is None:
            raise _not_allowed("token or certificate not accepted")
        if hello.role not in found.roles:
            granted = ", ".join(sorted(found.roles))
            raise _not_allowed(f"role {hello.role} is not granted, but {granted}")
        return found


def digest_of(token: str) -> bytes:
    """Return what is kept of a token, of one length whatever the token's."""
    return hashlib.sha256(token.encode()).digest()


def access_of(config: ServerConfig, environ: Mapping[str, str] = os.environ) -> Access:
    """Return the access that a configuration describes.

    Raises
    ------
    ConfigError
        When a file or a variable is missing, open to others, or holds what is no grant
        or no token.
    """
    grants: list[Grant] = []
    if config.access_file is not None:
        grants += _read_grants(Path(config.access_file))
    if config.token_variable is not None:
        token = environ.get(config.token_variable, "")
        path = "server.token_variable"
        # The name is not repeated: somebody may have put the token in its place.
        if not token:
            raise ConfigError([(path, "names a variable that is not set")])
        if problem := token_problem(token):
            raise ConfigError([(path, f"names a variable whose value {problem}")])
        grants.append(Grant("token_variable", token_digest=digest_of(token)))
    named = [grant.name for grant in grants if grant.certificate is not None]
    if named and config.tls_client_ca is None:
        reason = f"is needed for the certificate of {named[0]}"
        raise ConfigError([("server.tls_client_ca", reason)])
    # Without tokens, whoever could open the socket or has a certificate may do all.
    return Access(grants or [ANYBODY])


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    # One section of an access file.
    roles: Annotated[tuple[Role, ...], Meta(min_length=1)]
    topics: Annotated[tuple[Pattern, ...], Meta(min_length=1)] = EVERYTHING
    token: str | None = None
    certificate: Annotated[str, Meta(min_length=1)] | None = None


def _read_grants(path: Path) -> list[Grant]:
    text = read_secret(path, "server.access_file")
    source = str(path)
    try:
        sections = tomllib.loads(text)
    except ValueError as error:
        raise ConfigError([("access_file", str(error))], source=source) from None
    problems: list[tuple[str, str]] = []
    grants: list[Grant] = []
    for name, raw in sections.items():
        try:
            section = msgspec.convert(raw, _Section)
        except msgspec.ValidationError as error:  # it names types, not values
            problems.append((name, str(error)))
            continue
        problems += [(name, reason) for reason in _problems(name, section)]
        digest = None if section.token is None else digest_of(section.token)
        grants.append(
            Grant(
                name=name,
                roles=frozenset(section.roles),
                topics=section.topics,
                token_digest=digest,
                certificate=section.certificate,
            )
        )
    if not sections:
        problems.append(("access_file", "grants nothing to anybody"))
    digests = [grant.token_digest for grant in grants if grant.token_digest]
    if len(set(digests)) < len(digests):
        problems.append(("token", "the same one stands twice"))
    if problems:
        raise ConfigError(problems, source=source)
    return grants


def _problems(name: str, section: _Section) -> list[str]:
    found: list[str] = []
    if len(name) > MAX_NAME_LENGTH:
        found.append(f"name must have at most {MAX_NAME_LENGTH} characters")
    if section.token is None and section.certificate is None:
        found.append("needs a token or a certificate")
    if section.token is not None and (reason := token_problem(section.token)):
        found.append(f"token {reason}")
    found += [
        f"role {role} cannot be granted"
        for role in section.roles
        if role not in GRANTED_ROLES
    ]
    for pattern in section.topics:
        try:
            check_pattern(pattern)
        except InvalidTopicError as error:
            found.append(str(error))
    return found


def _not_allowed(detail: str) -> RejectedError:
    return RejectedError(RejectReason.NOT_ALLOWED.value, detail)
