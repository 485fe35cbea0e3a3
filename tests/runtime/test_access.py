"""Who is admitted, as what; and where a secret must never be seen."""

import hmac
import logging
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import ConfigError, Hello, RejectedError, Role
from beta_factory.messages.topics import covers, matches
from beta_factory.runtime.access import (
    ANYBODY,
    GRANTED_ROLES,
    Access,
    Grant,
    access_of,
    digest_of,
)
from beta_factory.runtime.config import ServerConfig
from beta_factory.runtime.tokens import default_token, read_token
from strategies import examples

DESK = "desk-token-0123456789"
FEED = "feed-token-0123456789"
ACCESS = f"""
[desk]
roles = ["subscriber"]
topics = ["beta.market.*"]
token = "{DESK}"

[prices]
roles = ["feed", "operator"]
token = "{FEED}"

[remote]
roles = ["subscriber"]
certificate = "remote.example"
"""


def secret_file(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


@pytest.fixture
def access(tmp_path: Path) -> Access:
    config = ServerConfig(
        address="tcp://127.0.0.1:0",
        access_file=secret_file(tmp_path / "access.toml", ACCESS),
        tls_certificate="sidecar.pem",
        tls_client_ca="ca.pem",
    )
    return access_of(config, {})


@pytest.mark.parametrize(
    ("role", "token", "certificate", "name"),
    [
        (Role.SUBSCRIBER, DESK, None, "desk"),
        (Role.FEED, FEED, None, "prices"),
        (Role.OPERATOR, FEED, None, "prices"),
        (Role.SUBSCRIBER, "", "remote.example", "remote"),
        (Role.SUBSCRIBER, "nonsense", "remote.example", "remote"),
        (Role.FEED, FEED, "remote.example", "prices"),
    ],
)
def test_a_peer_gets_the_grant_of_its_token_or_certificate(
    access: Access, role: Role, token: str, certificate: str | None, name: str
) -> None:
    hello = Hello(role=role, token=token)
    assert access.admit(hello, certificate).name == name


@pytest.mark.parametrize(
    ("role", "token", "certificate", "detail"),
    [
        (Role.SUBSCRIBER, "", None, "token or certificate not accepted"),
        (Role.SUBSCRIBER, DESK[:-1], None, "token or certificate not accepted"),
        (Role.SUBSCRIBER, DESK + "x", None, "token or certificate not accepted"),
        (Role.SUBSCRIBER, "", "other.example", "token or certificate not accepted"),
        (Role.FEED, DESK, None, "role feed is not granted, but subscriber"),
        (Role.SIDECAR, FEED, None, "role sidecar is not granted, but feed, operator"),
        (Role.OPERATOR, "", "remote.example", "role operator is not granted"),
    ],
)
def test_anything_else_is_refused_without_a_hint_at_the_secret(
    access: Access, role: Role, token: str, certificate: str | None, detail: str
) -> None:
    with pytest.raises(RejectedError) as caught:
        access.admit(Hello(role=role, token=token), certificate)
    assert caught.value.reason == "not_allowed"
    assert detail in caught.value.detail
    assert not token or token not in str(caught.value)


def test_a_grant_with_both_asks_for_both() -> None:
    both = Grant("both", token_digest=digest_of(DESK), certificate="c")
    access = Access([both])
    assert access.admit(Hello(token=DESK), "c") is both
    for token, certificate in ((DESK, None), (DESK, "d"), ("", "c")):
        with pytest.raises(RejectedError):
            access.admit(Hello(token=token), certificate)


def test_every_grant_is_compared_in_constant_time_whichever_fits(
    access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []
    compare_digest = hmac.compare_digest

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return compare_digest(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for token in (DESK, FEED, "", "x" * 1000):
        compared.clear()
        with suppress(RejectedError):
            access.admit(Hello(token=token), None)
        assert compared == [(32, 32)] * len(access.grants)


def test_without_grants_the_socket_says_who_may_connect() -> None:
    access = access_of(ServerConfig(address="/run/x.sock"), {})
    for role in GRANTED_ROLES:
        assert access.admit(Hello(role=role, token="whatever")) is ANYBODY
    with pytest.raises(RejectedError):
        access.admit(Hello(role=Role.SIDECAR))


def test_a_variable_holds_one_token_that_allows_everything() -> None:
    config = ServerConfig(address="tcp://127.0.0.1:0", token_variable="DESK_TOKEN")
    access = access_of(config, {"DESK_TOKEN": DESK})
    for role in GRANTED_ROLES:
        grant = access.admit(Hello(role=role, token=DESK))
        grant.check_topic(">")
    with pytest.raises(RejectedError):
        access.admit(Hello())


WRONG_FILES = [
    ("", "grants nothing"),
    ("[a]\nroles = ['feed']", "needs a token or a certificate"),
    ("[a]\nroles = []\ntoken = '0123456789abcdef'", "length >= 1"),
    ("[a]\ntoken = '0123456789abcdef'", "missing required field `roles`"),
    ("[a]\nroles = ['feed']\ntoken = 'short-secret'", "16 to 1024 characters, had 12"),
    ("[a]\nroles = ['feed']\ntoken = 'with space 0123456'", "printable ASCII"),
    ("[a]\nroles = ['sidecar']\ntoken = '0123456789abcdef'", "cannot be granted"),
    ("[a]\nroles = ['king']\ntoken = '0123456789abcdef'", "Invalid enum value 'king'"),
    ("[a]\nroles = ['feed']\ntoken = '0123456789abcdef'\nx = 1", "unknown field `x`"),
    (
        "[a]\nroles = ['feed']\ntoken = '0123456789abcdef'\ntopics = ['beta..']",
        "token 2 is empty",
    ),
    (
        "[a]\nroles = ['feed']\ntoken = '0123456789abcdef'\ntopics = ['bate.>']",
        "no topic begins with bate; did you mean beta.>?",
    ),
    (
        "".join(
            f"[{name}]\nroles = ['feed']\ntoken = '0123456789abcdef'\n" for name in "ab"
        ),
        "the same one stands twice",
    ),
    ("[a", "expected ']'"),
]


@pytest.mark.parametrize(("text", "reason"), WRONG_FILES)
def test_a_wrong_access_file_is_told_without_its_secrets(
    tmp_path: Path, text: str, reason: str
) -> None:
    path = secret_file(tmp_path / "access.toml", text)
    config = ServerConfig(address="/run/x.sock", access_file=path)
    with pytest.raises(ConfigError) as caught:
        access_of(config, {})
    assert reason.lower() in str(caught.value).lower()
    for secret in ("0123456789abcdef", "short-secret", "with space"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_a_secret_that_others_can_read_or_change_is_refused(
    tmp_path: Path, mode: int
) -> None:
    path = secret_file(tmp_path / "access.toml", ACCESS, mode)
    with pytest.raises(ConfigError, match=f"mode 0{mode:o}.*chmod 600"):
        access_of(ServerConfig(address="/run/x.sock", access_file=path), {})
    token = secret_file(tmp_path / "token", DESK, mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_token(token)


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "a variable that is not set"),
        ({"DESK_TOKEN": "short"}, "must have 16 to 1024 characters, had 5"),
        ({"DESK_TOKEN": "ü" * 20}, "printable ASCII"),
    ],
)
def test_a_variable_without_a_token_is_told(
    environ: dict[str, str], reason: str
) -> None:
    config = ServerConfig(address="/run/x.sock", token_variable="DESK_TOKEN")
    with pytest.raises(ConfigError, match=reason):
        access_of(config, environ)


def test_a_certificate_needs_an_authority(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "access.toml", ACCESS)
    config = ServerConfig(address="/run/x.sock", access_file=path)
    with pytest.raises(ConfigError, match="needed for the certificate of remote"):
        access_of(config, {})


@pytest.mark.parametrize(
    ("options", "path", "reason"),
    [
        ({}, "address", "open to others"),
        ({"tls_certificate": "c"}, "address", "open to others"),
        ({"tls_key": "k", "token_variable": "T"}, "tls_key", "needs a tls_certificate"),
        ({"tls_client_ca": "k"}, "tls_client_ca", "needs a tls_certificate"),
    ],
)
def test_tcp_is_refused_where_nothing_asks_who_one_is(
    options: dict[str, str], path: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        ServerConfig(address="tcp://127.0.0.1:0", **options)  # type: ignore[arg-type]
    ((found, why),) = caught.value.problems
    assert found == path
    assert reason in why


def test_tls_is_for_tcp() -> None:
    with pytest.raises(ConfigError, match="for a tcp:// address only"):
        ServerConfig(address="/run/x.sock", tls_certificate="c")


def test_a_token_is_in_no_repr_and_no_log(
    access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").warning("access=%r", access.grants)
        access.admit(Hello(token=DESK))
    for secret in (DESK, FEED, digest_of(DESK).hex(), repr(digest_of(DESK))):
        assert secret not in caplog.text


def test_a_client_finds_its_token_in_the_environment(tmp_path: Path) -> None:
    path = secret_file(tmp_path / "token", f"{DESK}\n")
    assert default_token({}) == ""
    assert default_token({"BETA_FACTORY_TOKEN": FEED}) == FEED
    assert default_token({"BETA_FACTORY_TOKEN_FILE": path}) == DESK
    both = {"BETA_FACTORY_TOKEN": FEED, "BETA_FACTORY_TOKEN_FILE": path}
    assert default_token(both) == FEED
    with pytest.raises(ConfigError, match="No such file"):
        default_token({"BETA_FACTORY_TOKEN_FILE": str(tmp_path / "none")})


# Topic rules

tokens = st.sampled_from(["beta", "market", "AAPL", "BRK%2EB", "*"])
patterns = st.one_of(
    st.lists(tokens, min_size=1, max_size=3).map(".".join),
    st.lists(tokens, max_size=2).map(lambda head: ".".join([*head, ">"])),
)
topics = [
    f"{kind}.{name}" if kind != "beta" else f"beta.{factor}.{name}"
    for kind in ("beta", "status", "feed")
    for factor in ("market", "sector")
    for name in ("AAPL", "BRK%2EB", "beta")
]


@given(patterns, patterns)
@examples(333)
def test_what_is_covered_matches_nothing_outside(wide: str, narrow: str) -> None:
    inside = all(matches(wide, t) for t in topics if matches(narrow, t))
    if covers(wide, narrow):
        assert inside


@given(patterns)
@examples(133)
def test_a_pattern_covers_itself_and_the_rest_covers_all(pattern: str) -> None:
    assert covers(pattern, pattern)
    assert covers(">", pattern)


@pytest.mark.parametrize(
    ("granted", "asked", "is_granted"),
    [
        ("beta.market.*", "beta.market.AAPL", True),
        ("beta.market.*", "beta.market.>", True),
        ("beta.market.>", "beta.market.*", True),
        ("beta.>", "beta.*.AAPL", True),
        ("beta.market.*", "beta.*.AAPL", False),
        ("beta.market.*", "beta.>", False),
        ("beta.market.*", ">", False),
        ("beta.market.AAPL", "beta.market.*", False),
        ("beta.market.AAPL", "beta.market.MSFT", False),
        ("beta.market.*", "*.market.AAPL", False),
        ("beta.market", "beta.market.AAPL", False),
        ("beta.market.AAPL", "beta.market", False),
    ],
)
def test_a_subscription_must_lie_within_a_grant(
    granted: str, asked: str, is_granted: bool
) -> None:
    grant = Grant("desk", topics=("status.AAPL", granted))
    if is_granted:
        grant.check_topic(asked)
    else:
        with pytest.raises(RejectedError, match="is not granted"):
            grant.check_topic(asked)
