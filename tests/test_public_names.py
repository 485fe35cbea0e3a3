"""What a program imports from `beta_factory`, and what that costs it."""

import subprocess
import sys
from typing import Final

import pytest

import beta_factory

SERVER: Final = {
    f"beta_factory.runtime.{name}"
    for name in (
        "access",
        "cell",
        "config",
        "group_finder",
        "group_reader",
        "groups",
        "mailbox",
        "peer",
        "server",
        "store",
        "supervisor",
        "system",
    )
}
"""Modules that a sidecar has a use for, and a client has none."""


def test_every_public_name_is_there_and_listed() -> None:
    assert len(set(beta_factory.__all__)) == len(beta_factory.__all__)
    for name in beta_factory.__all__:
        assert getattr(beta_factory, name) is getattr(beta_factory, name), name
        assert name in dir(beta_factory)


def test_a_name_that_is_not_there_is_an_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Gamma'"):
        _ = beta_factory.Gamma  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize(
    ("imports", "spared"),
    [
        ("beta_factory", {"asyncio", "ssl", "polars"}),
        ("beta_factory.runtime.replay_command", {"asyncio", "ssl", "polars"}),
        ("beta_factory.runtime.client", SERVER),
        ("beta_factory.runtime.operator_client", SERVER),
    ],
)
def test_nobody_imports_what_only_others_need(imports: str, spared: set[str]) -> None:
    program = f"import sys, {imports}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert not spared & set(done.stdout.split())


def test_a_star_imports_every_public_name() -> None:
    program = (
        "from beta_factory import *; import beta_factory;"
        "print(set(beta_factory.__all__) - set(dir()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"
