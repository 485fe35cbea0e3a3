"""Strangers, over real sockets: what they are told, and what they cost."""

import asyncio
import logging
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
import trustme

from beta_factory import ClientTls, Factor, Role, connect
from beta_factory.messages import (
    Acknowledged,
    FeedDisconnectedError,
    Goodbye,
    Hello,
    Message,
    Rejected,
    RejectedError,
    RejectReason,
    Subscribe,
    Subscribed,
    SymbolsDeclared,
    encode,
)
from beta_factory.runtime import server as server_module
from beta_factory.runtime.address import Address
from beta_factory.runtime.config import ServerConfig, SidecarConfig
from beta_factory.runtime.framing import frame
from beta_factory.runtime.peer import MAX_GREETING_BYTES
from beta_factory.runtime.sidecar import serve
from strategies import asset, bench
from testkit import (
    PATIENCE_S,
    SMALL,
    SYMBOLS,
    Peer,
    eventually,
    framed,
    length,
    sidecar,
)

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

DESK = "desk-token-0123456789"
FEED = "feed-token-0123456789"
OPERATOR = "operator-token-0123456789"
ACCESS = f"""
[desk]
roles = ["subscriber"]
topics = ["beta.market.AAPL", "beta.market.BAC"]
token = "{DESK}"

[prices]
roles = ["feed"]
token = "{FEED}"

[night]
roles = ["operator"]
token = "{OPERATOR}"

[remote]
roles = ["feed", "subscriber"]
certificate = "remote.example"
"""


@dataclass
class Certificates:
    """A sidecar's certificate, two clients', and who signed them."""

    sidecar: str
    sidecar_ca: str
    client_ca: str
    remote: str
    stranger: str


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ours, theirs, others = trustme.CA(), trustme.CA(), trustme.CA()

    def write(name: str, *blobs: trustme.Blob) -> str:
        path = folder / name
        for blob in blobs:
            blob.write_to_path(path, append=True)
        return str(path)

    def chain(ca: trustme.CA, name: str) -> str:
        leaf = ca.issue_cert(name, common_name=name)
        return write(f"{name}.pem", leaf.private_key_and_cert_chain_pem)

    return Certificates(
        sidecar=chain(ours, "localhost"),
        sidecar_ca=write("ours.pem", ours.cert_pem),
        client_ca=write("theirs.pem", theirs.cert_pem),
        remote=chain(theirs, "remote.example"),
        stranger=chain(others, "stranger.example"),
    )


@pytest.fixture
def access_file(tmp_path: Path) -> str:
    path = tmp_path / "access.toml"
    path.write_text(ACCESS)
    path.chmod(0o600)
    return str(path)


@asynccontextmanager
async def served(address: str, **options: object) -> AsyncGenerator[str]:
    """Run `serve`, and say where it can be reached by the name in its certificate."""
    server = ServerConfig(address=address, **options)  # type: ignore[arg-type]
    config = SidecarConfig(
        symbols=SYMBOLS, server=server, factors=(Factor("SPY", model=SMALL),)
    )
    stop, listening = anyio.Event(), anyio.Event()
    addresses: list[Address] = []

    def on_listening(address: Address) -> None:
        addresses.append(address)
        listening.set()

    async def run() -> None:
        await serve(config, stop, on_listening=on_listening)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await listening.wait()
            try:
                yield str(addresses[0]).replace("127.0.0.1", "localhost")
            finally:
                stop.set()


async def use(address: str, *, token: str = "", tls: ClientTls | None = None) -> None:
    """Feed a bar and see its beta."""
    feed_token = FEED if token else ""
    async with (
        connect(address, token=token, tls=tls) as desk,
        connect(address, role=Role.FEED, token=feed_token, tls=tls) as feed,
    ):
        updates = desk.subscribe("beta.market.AAPL")
        await updates.wait_joined()
        await feed.publish([bench(1, 0.1), asset("AAPL", 1, 0.1)])
        await feed.flush()
        assert (await anext(updates)).symbol == "AAPL"


async def test_a_certificate_of_the_authority_opens_tcp(
    access_file: str, certificates: Certificates
) -> None:
    async with served(
        "tcp://127.0.0.1:0",
        access_file=access_file,
        tls_certificate=certificates.sidecar,
        tls_client_ca=certificates.client_ca,
    ) as address:
        tls = ClientTls(certificates.sidecar_ca, certificates.remote)
        await use(address, tls=tls)


async def test_a_token_opens_tcp_without_tls(tmp_path: Path) -> None:
    path = tmp_path / "access.toml"
    path.write_text(ACCESS.split("[remote]", maxsplit=1)[0])
    path.chmod(0o600)
    async with served("tcp://127.0.0.1:0", access_file=str(path)) as address:
        await use(address, token=DESK)


async def test_a_token_opens_tcp_with_tls_of_the_sidecar_alone(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_TOKEN", FEED)
    async with served(
        "tcp://127.0.0.1:0",
        token_variable="DESK_TOKEN",
        tls_certificate=certificates.sidecar,
    ) as address:
        await use(address, token=FEED, tls=ClientTls(certificates.sidecar_ca))
        with pytest.raises(FeedDisconnectedError, match="certificate verify failed"):
            async with connect(
                address,
                token=FEED,
                tls=ClientTls(certificates.client_ca),
                connect_timeout_s=0.5,
            ):
                pass


@pytest.mark.parametrize("which", ["none", "stranger"])
async def test_without_a_certificate_of_the_authority_nobody_comes_in(
    certificates: Certificates, which: str
) -> None:
    stranger = certificates.stranger if which == "stranger" else None
    async with served(
        "tcp://127.0.0.1:0",
        tls_certificate=certificates.sidecar,
        tls_client_ca=certificates.client_ca,
    ) as address:
        await use(address, tls=ClientTls(certificates.sidecar_ca, certificates.remote))
        with pytest.raises(FeedDisconnectedError):
            async with connect(
                address,
                tls=ClientTls(certificates.sidecar_ca, stranger),
                connect_timeout_s=0.5,
            ):
                pass


async def test_one_that_speaks_no_tls_gets_no_byte_of_data(
    certificates: Certificates,
) -> None:
    async with served(
        "tcp://127.0.0.1:0",
        tls_certificate=certificates.sidecar,
        tls_client_ca=certificates.client_ca,
    ) as address:
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(framed(Hello(), Subscribe(subscription=1, pattern="beta.>")))
        try:
            data = await reader.read()
        except ConnectionResetError:
            data = b""
        assert len(data) <= 7  # at most an alert
        writer.close()


async def test_a_rejected_peer_over_tls_reads_why(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DESK_TOKEN", FEED)
    async with served(
        "tcp://127.0.0.1:0",
        token_variable="DESK_TOKEN",
        tls_certificate=certificates.sidecar,
    ) as address:
        with pytest.raises(RejectedError, match="token or certificate not accepted"):
            async with connect(
                address, token=DESK, tls=ClientTls(certificates.sidecar_ca)
            ):
                pass


# What one may do

UNKNOWN = "token or certificate not accepted"
ROLES = [
    (Hello(role=Role.SUBSCRIBER, token="guess-guess-guess"), (), UNKNOWN),
    (Hello(role=Role.SUBSCRIBER), (), UNKNOWN),
    (Hello(role=Role.FEED, token=DESK), (), "role feed is not granted"),
    (Hello(role=Role.OPERATOR, token=DESK), (), "role operator is not granted"),
    (
        Hello(role=Role.SUBSCRIBER, token=DESK),
        (bench(1, 0.1),),
        "a subscriber may not say BenchmarkReturnObserved",
    ),
    (
        Hello(role=Role.OPERATOR, token=OPERATOR),
        (asset("AAPL", 1, 0.1),),
        "a operator may not say ReturnObserved",
    ),
]


@pytest.fixture
def certificate_free(tmp_path: Path) -> str:
    path = tmp_path / "access.toml"
    path.write_text(ACCESS.split("[remote]", maxsplit=1)[0])
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize("case", ROLES)
async def test_who_may_not_is_told_and_closed(
    socket_path: Path,
    certificate_free: str,
    caplog: pytest.LogCaptureFixture,
    case: tuple[Hello, tuple[Message, ...], str],
) -> None:
    hello, messages, detail = case
    caplog.set_level(logging.DEBUG)
    async with served(str(socket_path), access_file=certificate_free):
        peer = Peer(*await asyncio.open_unix_connection(socket_path))
        await peer.send_bytes(framed(hello, *messages))
        *before, last = await peer.rest()
        assert isinstance(last, Rejected)
        assert last.reason is RejectReason.NOT_ALLOWED
        assert detail in last.detail
        assert [type(message) for message in before] == [Hello] * bool(messages)
        await peer.close()
    for secret in (DESK, FEED, OPERATOR, "guess-guess-guess"):
        assert secret not in caplog.text


async def test_a_subscription_outside_its_grant_is_refused_and_the_peer_stays(
    socket_path: Path, certificate_free: str
) -> None:
    async with served(str(socket_path), access_file=certificate_free):
        peer = Peer(*await asyncio.open_unix_connection(socket_path))
        await peer.greet("desk", token=DESK)
        for number, pattern in enumerate(["beta.market.*", "beta.>", "beta.*.AAPL"], 1):
            await peer.send(Subscribe(subscription=number, pattern=pattern))
            rejected = await peer.expect(Rejected)
            assert rejected.reason is RejectReason.NOT_ALLOWED
            assert rejected.subscription == number
            assert "beta.market.AAPL, beta.market.BAC" in rejected.detail
        assert (await peer.subscribe("beta.market.AAPL")).n_snapshot == 0
        await peer.close()


async def test_a_feed_that_subscribes_is_refused_and_goes_on_feeding(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path) as running:
        subscriber = await running.subscriber()
        feed = await running.connect("feed", Role.FEED)
        await feed.send(
            Subscribe(subscription=3, pattern="beta.>"),
            bench(1, 0.1),
            asset("BAC", 1, 0.2),
        )
        rejected = await feed.expect(Rejected)
        assert rejected.reason is RejectReason.NOT_ALLOWED
        assert rejected.subscription == 3
        assert [u.symbol for u in await subscriber.updates(1)] == ["BAC"]


# What strangers cost


async def test_before_its_hello_a_peer_is_read_one_short_frame_of(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path) as running:
        for data in (
            length(MAX_GREETING_BYTES + 1),
            frame(bytes(MAX_GREETING_BYTES + 1)),
            frame(encode([Hello()])[:1] + bytes(MAX_GREETING_BYTES)),
        ):
            peer = await running.dial()
            await peer.send_bytes(data)
            (rejected,) = await peer.rest()
            assert isinstance(rejected, Rejected)
            assert rejected.reason is RejectReason.TOO_LARGE
        # What follows a Hello in the same write may be longer.
        peer = await running.dial()
        names = tuple(f"S{i:05d}" for i in range(5000))
        table = SymbolsDeclared(table=1, symbols=names)
        await peer.send(Hello(role=Role.FEED), table, asset("BAC", 1, 0.1, seq=1))
        await peer.expect(Hello)
        await peer.expect(Acknowledged)


async def test_a_stranger_is_told_nothing_of_what_goes_on(socket_path: Path) -> None:
    async with sidecar(socket_path) as running:
        stranger = await running.dial()
        await eventually(lambda: len(running.server.connections) == 1)
        feed = await running.connect("feed", Role.FEED)
        await feed.send(bench(1, 0.1), asset("BAC", 1, 0.2, seq=2))
        await feed.receive()
        running.server.heartbeat(5)
        running.server.say_goodbye("done")
        assert await stranger.rest() == [Goodbye(reason="done")]


async def test_strangers_push_out_only_each_other(
    socket_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_UNGREETED", 4)
    async with sidecar(socket_path) as running:
        subscriber = await running.subscriber()
        strangers = [await running.dial() for _ in range(10)]
        await eventually(lambda: running.server.n_accepted == 11)
        for gone in strangers[:6]:
            (rejected,) = await gone.rest()
            assert isinstance(rejected, Rejected)
            assert rejected.reason is RejectReason.TOO_MANY
        assert (await strangers[9].greet()).greeting.role is Role.SIDECAR
        await subscriber.subscribe("beta.>", subscription=2)


async def test_one_connection_too_many_is_told_and_those_there_stay(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path, max_connections=2) as running:
        first, second = await running.connect(), await running.connect()
        third = await running.dial()
        await third.send(Hello())
        assert await third.rest() == [
            Rejected(
                reason=RejectReason.TOO_MANY,
                detail="the sidecar takes 2 connections",
            )
        ]
        await first.subscribe("beta.>")
        await second.close()
        await third.close()
        await eventually(lambda: len(running.server.connections) == 1)
        await running.connect()


async def test_one_subscription_too_many_is_told_and_those_there_stay(
    socket_path: Path,
) -> None:
    async with sidecar(socket_path, max_subscriptions=2) as running:
        peer = await running.connect()
        for number in (1, 2):
            await peer.subscribe("beta.market.AAPL", subscription=number)
        await peer.send(Subscribe(subscription=3, pattern="beta.>"))
        rejected = await peer.expect(Rejected)
        assert rejected.reason is RejectReason.TOO_MANY
        assert rejected.subscription == 3
        assert "may have 2 subscriptions" in rejected.detail
        # One that is there may change its pattern.
        await peer.send(Subscribe(subscription=2, pattern="beta.market.BAC"))
        await peer.expect(Subscribed)
        feed = await running.connect("feed", Role.FEED)
        await feed.send(*(asset(s, 1, 0.1) for s in SYMBOLS), bench(1, 0.1))
        assert {u.symbol for u in await peer.updates(2)} == {"AAPL", "BAC"}


# What others on the machine can see


async def test_a_token_is_in_no_process_list(
    socket_path: Path, certificate_free: str, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text(DESK)
    token_file.chmod(0o600)
    async with served(str(socket_path), access_file=certificate_free):
        command = [sys.executable, "-m", "beta_factory", "subscribe"]
        command += ["beta.market.AAPL", "--address", str(socket_path), "--json"]
        command += ["--token-file", str(token_file), "--count", "1"]
        environment = {k: v for k, v in os.environ.items() if "TOKEN" not in k}
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        joined = b""
        while b"subscription.joined" not in joined:
            joined = await process.stderr.readline()
            assert joined, "the subscriber ended"
        line = Path(f"/proc/{process.pid}/cmdline")
        if line.exists():  # noqa: ASYNC240 - not a disk
            assert DESK not in line.read_text()  # noqa: ASYNC240
        async with connect(str(socket_path), role=Role.FEED, token=FEED) as feed:
            await feed.publish([bench(1, 0.1), asset("AAPL", 1, 0.1)])
            await feed.flush()
        out, err = await process.communicate()
        assert process.returncode == 0
        assert b'"symbol":"AAPL"' in out
        assert DESK.encode() not in out + joined + err


async def test_ssl_contexts_speak_nothing_old(certificates: Certificates) -> None:
    context = ClientTls(certificates.sidecar_ca).context()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
