"""Addresses: every form in, one form out, and a sentence for everything else."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beta_factory.messages import ConfigError
from beta_factory.runtime.address import (
    MAX_PATH_BYTES,
    MAX_PORT,
    Address,
    default_address,
)
from strategies import characters

FORMS = [
    ("unix:///run/beta.sock", Address(path="/run/beta.sock"), "unix:///run/beta.sock"),
    ("/run/beta.sock", Address(path="/run/beta.sock"), "unix:///run/beta.sock"),
    ("/run/a b:c.sock", Address(path="/run/a b:c.sock"), "unix:///run/a b:c.sock"),
    ("./beta.sock", Address(path="./beta.sock"), "./beta.sock"),
    ("../beta.sock", Address(path="../beta.sock"), "../beta.sock"),
    ("tcp://h:7700", Address(host="h", port=7700), "tcp://h:7700"),
    ("tcp://0.0.0.0:0", Address(host="0.0.0.0", port=0), "tcp://0.0.0.0:0"),
    ("tcp://[::1]:65535", Address(host="::1", port=65535), "tcp://[::1]:65535"),
]

REFUSED = [
    ("", "must be unix:///path/to.sock"),
    ("beta.sock", "must be unix:///path/to.sock"),
    ("@abstract", "must be unix:///path/to.sock"),
    ("unix://beta.sock", "must be unix:///path/to.sock"),
    ("unix://./beta.sock", "must be unix:///path/to.sock"),
    ("unix:/beta.sock", "must be unix:///path/to.sock"),
    ("http://host:80", "must be unix:///path/to.sock"),
    ("localhost:7700", "must be unix:///path/to.sock"),
    ("/", "must end in the name of a socket"),
    ("unix:///run/", "must end in the name of a socket"),
    ("/run/a\0b", "must not contain a NUL"),
    ("/\ud800", "is no file name"),
    ("/" + "x" * MAX_PATH_BYTES, f"at most {MAX_PATH_BYTES} bytes, was"),
    ("tcp://host", "has no port"),
    ("tcp://", "has no port"),
    ("tcp://:7700", "has no host"),
    ("tcp://[]:7700", "has no host"),
    ("tcp://::1:7700", "stands in brackets"),
    ("tcp://host:", "port must be 0 to 65535, was ''"),
    ("tcp://host:http", "port must be 0 to 65535, was 'http'"),
    ("tcp://host:-1", "port must be 0 to 65535, was '-1'"),
    ("tcp://host:65536", "port must be 0 to 65535, was '65536'"),
    ("tcp://host:" + "9" * 5000, "port must be 0 to 65535"),
    ("tcp://host:7\u0667", "port must be 0 to 65535"),
    ("tcp://host:7700/", "port must be 0 to 65535, was '7700/'"),
    ("tcp://user@host:7700", "host must not contain '@'"),
    ("tcp://ho st:7700", "host must not contain ' '"),
]


@pytest.mark.parametrize(("text", "address", "written"), FORMS)
def test_every_form_is_read_and_written_in_one_form(
    text: str, address: Address, written: str
) -> None:
    assert Address.parse(text) == address
    assert str(address) == written
    assert Address.parse(written) == address


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_anything_else_is_refused_with_the_reason_and_the_text(
    text: str, reason: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Address.parse(text)
    [(place, problem)] = caught.value.problems
    assert place == "address"
    assert reason in problem
    assert problem.endswith(f"was {text!r}")


def test_longest_path_is_accepted() -> None:
    path = "/" + "x" * (MAX_PATH_BYTES - 1)
    assert Address.parse(path).path == path


@given(st.text(characters))
def test_any_text_is_an_address_that_comes_back_or_a_config_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ConfigError:
        return
    assert Address.parse(str(address)) == address


@given(
    st.text("abcdefghijklmnopqrstuvwxyz0123456789.-", min_size=1, max_size=20)
    | st.ip_addresses().map(str)
    | st.just("fe80::1%eth0"),
    st.integers(0, MAX_PORT),
)
def test_any_host_and_port_comes_back(host: str, port: int) -> None:
    address = Address(host=host, port=port)
    assert Address.parse(str(address)) == address


def test_default_address_is_in_the_users_runtime_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000/")
    assert default_address().path == "/run/user/1000/beta-factory.sock"


@pytest.mark.parametrize("folder", [None, "", "relative"])
def test_default_address_without_a_runtime_folder_has_the_user_in_it(
    folder: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if folder is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
    assert default_address().path == f"/tmp/beta-factory-{os.getuid()}.sock"


def test_default_address_with_too_long_a_runtime_folder_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/" + "x" * MAX_PATH_BYTES)
    with pytest.raises(ConfigError, match="at most"):
        default_address()
